//! Records between two sessions, honest and forged.

mod messages;

use super::*;
use crate::tls::testing::{Buffers, Noise, authenticated_pair, on_worker};

/// The sessions of both ends of a connection.
fn sessions() -> (Session, Session) {
    let (client, server) = on_worker(authenticated_pair(Buffers::Usual));
    (client.session, server.session)
}

/// A record of `from`, whatever it says: `kind` and `padding` zeros follow the content.
fn forged(from: &mut Session, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
    let mut inner = [content, &[kind], &vec![0; padding]].concat();
    let [high, low] = u16::try_from(inner.len() + TAG).unwrap().to_be_bytes();
    let header = [APPLICATION_DATA, 3, 3, high, low];
    let nonce = from.sealing.nonce();
    let tag = from
        .sealing
        .key
        .seal_in_place_separate_tag(nonce, Aad::from(header), &mut inner)
        .unwrap();
    [&header, &*inner, tag.as_ref()].concat()
}

fn sealed(from: &mut Session, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER + content.len() + TRAILER];
    record[HEADER..HEADER + content.len()].copy_from_slice(content);
    let length = from.seal(&mut record, content.len()).unwrap();
    assert_eq!(length, record.len());
    record
}

/// The content of a record of application data that takes all of `record`.
fn opened(by: &mut Session, record: &[u8]) -> Vec<u8> {
    let mut input = record.to_vec();
    match by.open(&mut input) {
        Ok(Opened::Data { content, length }) => {
            assert_eq!(length, record.len());
            input[content].to_vec()
        }
        other => panic!("{other:?}"),
    }
}

fn open(by: &mut Session, record: &[u8]) -> Result<Opened, SessionError> {
    by.open(&mut record.to_vec())
}

#[test]
fn records_of_every_size_are_opened_in_order() {
    let (mut client, mut server) = sessions();
    for size in [0, 1, 2, 15, 16, 17, 1000, CONTENT - 1, CONTENT] {
        let content: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
        let record = sealed(&mut client, &content);
        assert_eq!(opened(&mut server, &record), content);
        let record = sealed(&mut server, &content);
        assert_eq!(opened(&mut client, &record), content);
    }
}

#[test]
fn several_records_are_opened_one_by_one_from_one_buffer() {
    let (mut client, mut server) = sessions();
    let mut buffer = [sealed(&mut client, b"one"), sealed(&mut client, b"three")].concat();
    let half = sealed(&mut client, b"incomplete");
    buffer.extend_from_slice(&half[..10]);
    let (mut at, mut found) = (0, Vec::new());
    while let Opened::Data { content, length } = server.open(&mut buffer[at..]).unwrap() {
        found.push(buffer[at..][content].to_vec());
        at += length;
    }
    assert_eq!(found, [b"one".to_vec(), b"three".to_vec()]);
    assert_eq!(buffer.len() - at, 10);
    buffer.extend_from_slice(&half[10..]);
    assert_eq!(opened(&mut server, &buffer[at..]), b"incomplete");
}

#[test]
fn a_record_is_waited_for_until_it_is_whole() {
    let (mut client, mut server) = sessions();
    let record = sealed(&mut client, b"hello");
    for length in 0..record.len() {
        let mut part = record[..length].to_vec();
        assert_eq!(server.open(&mut part), Ok(Opened::Incomplete));
        assert_eq!(
            part,
            record[..length],
            "an incomplete record is not touched"
        );
    }
    assert_eq!(opened(&mut server, &record), b"hello");
}

#[test]
fn content_that_is_too_large_is_not_sealed() {
    let (mut client, _) = sessions();
    let mut record = vec![0; 2 * CONTENT];
    assert!(client.seal(&mut record, CONTENT + 1).is_err());
    assert!(
        client
            .seal(&mut record[..HEADER + 10 + TRAILER - 1], 10)
            .is_err()
    );
    assert!(client.seal(&mut [], 0).is_err());
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let record_length = HEADER + 5 + TRAILER;
    for place in 0..record_length {
        let (mut client, mut server) = sessions();
        let mut record = sealed(&mut client, b"hello");
        assert_eq!(record.len(), record_length);
        record[place] ^= 0x01;
        let result = open(&mut server, &record);
        match place {
            // The length: more is waited for.
            3 | 4 => assert_eq!(result, Ok(Opened::Incomplete)),
            _ => assert!(result.is_err(), "byte {place}: {result:?}"),
        }
    }
}

#[test]
fn cut_replayed_reordered_and_foreign_records_are_refused() {
    let cut = |record: &[u8], by: usize| {
        let mut record = record[..record.len() - by].to_vec();
        let [high, low] = u16::try_from(record.len() - HEADER).unwrap().to_be_bytes();
        (record[3], record[4]) = (high, low);
        record
    };
    for by in 1..=22 {
        let (mut client, mut server) = sessions();
        let record = cut(&sealed(&mut client, b"hello"), by);
        assert_eq!(open(&mut server, &record), Err(SessionError::Decrypt));
    }
    let (mut client, mut server) = sessions();
    let record = sealed(&mut client, b"hello");
    opened(&mut server, &record);
    assert_eq!(open(&mut server, &record), Err(SessionError::Decrypt));

    let (mut client, mut server) = sessions();
    let (_, second) = (sealed(&mut client, b"1"), sealed(&mut client, b"2"));
    assert_eq!(open(&mut server, &second), Err(SessionError::Decrypt));

    // Its own record, sent back.
    let (mut client, _) = sessions();
    let record = sealed(&mut client, b"hello");
    assert_eq!(open(&mut client, &record), Err(SessionError::Decrypt));
}

#[test]
fn records_in_the_clear_are_refused() {
    for kind in [20, ALERT, HANDSHAKE, 24, 0, 255] {
        let (_, mut server) = sessions();
        let record = [kind, 3, 3, 0, 2, 1, 0];
        let result = open(&mut server, &record);
        assert!(matches!(result, Err(SessionError::Peer(_))), "{kind}");
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_before_it_is_there() {
    let (_, mut server) = sessions();
    let [high, low] = u16::try_from(CIPHERTEXT + 1).unwrap().to_be_bytes();
    let result = open(&mut server, &[APPLICATION_DATA, 3, 3, high, low]);
    assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
}

#[test]
fn padding_is_taken_off_and_counts_as_content() {
    let (mut client, mut server) = sessions();
    for (content, padding) in [(&b"hello"[..], 1), (b"", 100), (b"a\0\0", 7)] {
        let record = forged(&mut client, APPLICATION_DATA, content, padding);
        assert_eq!(opened(&mut server, &record), content);
    }
    let largest = forged(&mut client, APPLICATION_DATA, &[1; 100], CONTENT - 100);
    assert_eq!(opened(&mut server, &largest), [1; 100]);
    for (content, padding) in [(CONTENT + 1, 0), (CONTENT - 10, 11), (0, CONTENT + 1)] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut client, APPLICATION_DATA, &vec![1; content], padding);
        let result = open(&mut server, &record);
        assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
    }
}

#[test]
fn a_record_has_a_known_type() {
    for kind in [0, 1, 20, 24, 255] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut client, kind, b"", 3);
        let result = open(&mut server, &record);
        assert!(matches!(result, Err(SessionError::Peer(_))), "{kind}");
    }
}

#[test]
fn alerts() {
    let (mut client, mut server) = sessions();
    let record = client.close_notify().unwrap();
    assert_eq!(open(&mut server, &record), Ok(Opened::Closed));
    // Section 6: the level does not matter.
    for level in [1, 2] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut client, ALERT, &[level, 0], 0);
        assert_eq!(open(&mut server, &record), Ok(Opened::Closed));
        let (mut client, mut server) = sessions();
        let record = forged(&mut client, ALERT, &[level, 42], 0);
        assert_eq!(open(&mut server, &record), Err(SessionError::Alert(42)));
    }
    for malformed in [&[][..], &[2], &[1, 0, 1, 0]] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut client, ALERT, malformed, 0);
        let result = open(&mut server, &record);
        assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
    }
}

#[test]
fn no_input_makes_it_panic_or_say_more_than_there_is() {
    let (mut client, mut server) = sessions();
    for seed in 0..2000 {
        let mut noise = Noise::new(seed);
        let length = noise.below(256);
        let mut input: Vec<u8> = (0..length).map(|_| noise.byte()).collect();
        if seed % 2 == 0
            && let Some(first) = input.first_mut()
        {
            *first = APPLICATION_DATA;
        }
        let found = server.open(&mut input);
        assert!(
            matches!(found, Err(_) | Ok(Opened::Incomplete)),
            "{found:?} of noise"
        );
        // The same inside of a record.
        let kind = [ALERT, HANDSHAKE, APPLICATION_DATA, noise.byte()][noise.below(4)];
        let record = forged(&mut client, kind, &input, noise.below(3));
        server.opening.sequence = client.sealing.sequence - 1;
        let mut bytes = record.clone();
        match server.open(&mut bytes) {
            Ok(Opened::Data { content, length }) => {
                assert_eq!((content.len(), length), (input.len(), record.len()));
            }
            Ok(Opened::Internal { length }) => assert_eq!(length, record.len()),
            Ok(Opened::Incomplete) => panic!("a whole record is called incomplete"),
            Ok(Opened::Closed) | Err(_) => server.handshake.clear(),
        }
    }
}
