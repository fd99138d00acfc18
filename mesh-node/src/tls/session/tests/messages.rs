//! Messages after the handshake: tickets and key updates.

use super::*;

const UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
const UPDATE_AND_ASK: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 1];

fn internal(record: &[u8]) -> Result<Opened, SessionError> {
    Ok(Opened::Internal {
        length: record.len(),
    })
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, a, b, c], body].concat()
}

/// NewSessionTicket: lifetime, age_add, nonce, ticket, extensions.
fn ticket() -> Vec<u8> {
    let body = [
        &[0, 0, 14, 16, 1, 2, 3, 4, 2, 0, 0, 0, 5][..],
        b"stuff",
        &[0, 0],
    ];
    message(NEW_SESSION_TICKET, &body.concat())
}

#[test]
fn tickets_are_ignored_in_any_number_of_pieces() {
    let (mut client, mut server) = sessions();
    let two = [ticket(), ticket()].concat();
    let record = forged(&mut server, HANDSHAKE, &two, 0);
    assert_eq!(open(&mut client, &record), internal(&record));
    for split in 1..two.len() {
        for part in [&two[..split], &two[split..]] {
            let record = forged(&mut server, HANDSHAKE, part, 0);
            assert_eq!(open(&mut client, &record), internal(&record));
        }
    }
    for byte in &two {
        let record = forged(&mut server, HANDSHAKE, &[*byte], 0);
        assert_eq!(open(&mut client, &record), internal(&record));
    }
    assert_eq!(opened(&mut client, &sealed(&mut server, b"data")), b"data");
}

#[test]
fn a_handshake_message_is_not_interrupted() {
    for (kind, content) in [(APPLICATION_DATA, &b"data"[..]), (ALERT, &[1, 0])] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut server, HANDSHAKE, &ticket()[..5], 0);
        open(&mut client, &record).unwrap();
        let record = forged(&mut server, kind, content, 0);
        let result = open(&mut client, &record);
        assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
    }
}

#[test]
fn other_handshake_messages_are_refused() {
    let finished = message(20, &[0; 32]);
    let client_hello = message(1, &[0; 40]);
    let certificate_request = message(13, &[0, 0, 0]);
    let malformed = message(KEY_UPDATE, &[2]);
    let long = message(KEY_UPDATE, &[0, 0]);
    let empty = message(KEY_UPDATE, &[]);
    let update_and_more = [&UPDATE[..], &ticket()].concat();
    for content in [
        &finished[..],
        &client_hello,
        &certificate_request,
        &malformed,
        &long,
        &empty,
        &update_and_more,
        b"",
    ] {
        let (mut client, mut server) = sessions();
        let record = forged(&mut server, HANDSHAKE, content, 0);
        let result = open(&mut client, &record);
        assert!(
            matches!(result, Err(SessionError::Peer(_))),
            "{content:?}: {result:?}"
        );
    }
}

#[test]
fn a_handshake_message_without_end_is_not_collected() {
    let (mut client, mut server) = sessions();
    let start = [&[NEW_SESSION_TICKET, 255, 255, 255], &[0; CONTENT - 4][..]].concat();
    let mut result = open(&mut client, &forged(&mut server, HANDSHAKE, &start, 0));
    let mut records = 1;
    while result.is_ok() {
        let record = forged(&mut server, HANDSHAKE, &[0; CONTENT], 0);
        result = open(&mut client, &record);
        records += 1;
    }
    assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
    assert!(records <= HANDSHAKE_LIMIT / CONTENT + 1);
}

/// Makes `from` update its key with this message, as a peer does.
fn update(from: &mut Session, message: &[u8]) -> Vec<u8> {
    let record = forged(from, HANDSHAKE, message, 0);
    let secrets = from.rekey.next_sealing().unwrap();
    from.sealing = Direction::new(0, &secrets).unwrap();
    record
}

#[test]
fn key_updates_of_the_peer_are_followed() {
    let (mut client, mut server) = sessions();
    for round in 0..3 {
        let record = update(&mut client, &UPDATE);
        assert_eq!(open(&mut server, &record), internal(&record));
        assert!(!server.wants_key_update(), "none was asked for");
        assert_eq!(opened(&mut server, &sealed(&mut client, &[round])), [round]);
        assert_eq!(opened(&mut client, &sealed(&mut server, &[round])), [round]);
    }
}

#[test]
fn a_key_update_that_was_asked_for_is_made() {
    let (mut client, mut server) = sessions();
    for round in 0..3 {
        let record = update(&mut client, &UPDATE_AND_ASK);
        assert_eq!(open(&mut server, &record), internal(&record));
        assert!(server.wants_key_update());
        let record = server.update_key().unwrap();
        assert!(!server.wants_key_update());
        assert_eq!(open(&mut client, &record), internal(&record));
        assert!(!client.wants_key_update(), "one is enough");
        assert_eq!(opened(&mut server, &sealed(&mut client, &[round])), [round]);
        assert_eq!(opened(&mut client, &sealed(&mut server, &[round])), [round]);
    }
}

#[test]
fn what_was_sealed_with_the_old_key_is_refused_after_an_update() {
    let (mut client, mut server) = sessions();
    let record = forged(&mut client, HANDSHAKE, &UPDATE, 0);
    open(&mut server, &record).unwrap();
    let stale = sealed(&mut client, b"stale");
    assert_eq!(open(&mut server, &stale), Err(SessionError::Decrypt));
}

#[test]
fn the_key_is_updated_when_it_has_sealed_enough() {
    let (mut client, mut server) = sessions();
    client.limit_records(3);
    let mut updates = 0;
    for round in 0..20 {
        if client.wants_key_update() {
            let record = client.update_key().unwrap();
            assert_eq!(open(&mut server, &record), internal(&record));
            updates += 1;
        }
        assert_eq!(opened(&mut server, &sealed(&mut client, &[round])), [round]);
        assert!(client.sealing.sequence <= 3);
    }
    assert_eq!(updates, 6);
}

#[test]
fn key_updates_without_data_come_to_an_end() {
    let (mut client, mut server) = sessions();
    for _ in 0..3 {
        for _ in 0..KEY_UPDATES {
            open(&mut server, &update(&mut client, &UPDATE)).unwrap();
        }
        // Data forgives them.
        opened(&mut server, &sealed(&mut client, b"data"));
    }
    for _ in 0..KEY_UPDATES {
        open(&mut server, &update(&mut client, &UPDATE)).unwrap();
        // A record without content is no data.
        opened(&mut server, &sealed(&mut client, b""));
    }
    let result = open(&mut server, &update(&mut client, &UPDATE));
    assert!(matches!(result, Err(SessionError::Peer(_))), "{result:?}");
}
