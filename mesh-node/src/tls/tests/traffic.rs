//! Records both ways, in every suite and both roles, with keys that change.

use super::*;

const SIZES: [usize; 10] = [1, 2, 15, 16, 17, 1000, 16_383, 16_384, 16_385, 100_001];

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i / 251 + i) as u8).collect()
}

/// Sends `content` from ours to theirs, updating the key where the session wants it.
fn send(ours: &mut Session, theirs: &mut Connection, content: &[u8]) -> usize {
    let (mut received, mut updates) = (Vec::new(), 0);
    for piece in content.chunks(CONTENT) {
        if ours.wants_key_update() {
            let record = ours.update_key().unwrap();
            assert_eq!(heard(theirs, &record).unwrap(), b"");
            updates += 1;
        }
        let record = sealed(ours, piece);
        received.extend(heard(theirs, &record).unwrap());
    }
    assert!(
        received == content,
        "{} bytes arrived changed",
        content.len()
    );
    updates
}

/// Sends `content` from theirs to ours.
fn receive(theirs: &mut Connection, ours: &mut Session, content: &[u8]) {
    let mut received = Vec::new();
    for piece in content.chunks(10_000) {
        theirs.writer().write_all(piece).unwrap();
        received.extend(opened(ours, said(theirs)));
    }
    assert!(
        received == content,
        "{} bytes arrived changed",
        content.len()
    );
}

/// Runs `test` for every suite of TLS 1.3 in both roles.
fn for_all(test: impl Fn(Session, Connection)) {
    let suites = aws_lc_rs::default_provider().cipher_suites;
    let suites: Vec<_> = suites.iter().filter(|s| s.tls13().is_some()).collect();
    assert_eq!(suites.len(), 3);
    for suite in suites {
        let foreign = |account| Foreign {
            suites: vec![*suite],
            ..Foreign::new(account)
        };
        let client = foreign("client").client(true);
        let (ours, theirs) = on_worker(ends(End::Server, client));
        assert_eq!(theirs.negotiated_cipher_suite(), Some(*suite));
        test(ours, theirs);
        let server = foreign("server").server();
        let (ours, theirs) = on_worker(ends(End::Client, server));
        assert_eq!(theirs.negotiated_cipher_suite(), Some(*suite));
        test(ours, theirs);
    }
}

#[test]
fn data_goes_both_ways_in_odd_sizes() {
    for_all(|mut ours, mut theirs| {
        for size in SIZES {
            send(&mut ours, &mut theirs, &content(size));
            receive(&mut theirs, &mut ours, &content(size));
        }
    });
}

#[test]
fn a_peer_that_asks_for_new_keys_gets_them() {
    for_all(|mut ours, mut theirs| {
        for _ in 0..40 {
            receive(&mut theirs, &mut ours, b"before");
            theirs.refresh_traffic_keys().unwrap();
            receive(&mut theirs, &mut ours, b"after");
            assert!(ours.wants_key_update());
            assert_eq!(send(&mut ours, &mut theirs, b"with the new key"), 1);
        }
    });
}

#[test]
fn new_keys_are_made_when_the_old_have_sealed_enough() {
    for_all(|mut ours, mut theirs| {
        ours.limit_records(4);
        let mut updates = 0;
        for round in 0..20 {
            updates += send(&mut ours, &mut theirs, &content(3 * CONTENT + 1));
            receive(&mut theirs, &mut ours, &content(round));
        }
        // Four records of each key, and 80 in all.
        assert_eq!(updates, 19);
    });
}

#[test]
fn a_server_that_sends_tickets_is_understood() {
    on_worker(async {
        let foreign = Foreign::new("server");
        let mut config = foreign.server_config(true);
        config.send_tls13_tickets = 5;
        let mut theirs: Connection = ServerConnection::new(Arc::new(config)).unwrap().into();
        let (ours, socket) = our_client();
        shake(&mut theirs, &socket).await.unwrap();
        let tickets = said(&mut theirs);
        assert!(tickets.len() > 5 * 50, "no tickets were sent");
        let ours = ours.await.unwrap().unwrap();
        let mut session = ours.session;
        assert_eq!(opened(&mut session, tickets), b"");
        receive(&mut theirs, &mut session, b"data");
        send(&mut session, &mut theirs, b"data");
    });
}

#[test]
fn the_end_is_told_both_ways() {
    for_all(|mut ours, mut theirs| {
        let record = ours.close_notify().unwrap();
        assert_eq!(heard(&mut theirs, &record).unwrap(), b"");
        assert_eq!(theirs.reader().read(&mut [0]).unwrap(), 0);
        theirs.send_close_notify();
        let mut record = said(&mut theirs);
        assert_eq!(ours.open(&mut record), Ok(Opened::Closed));
    });
}

#[test]
fn an_error_of_the_peer_is_told() {
    for_all(|mut ours, mut theirs| {
        let mut record = sealed(&mut ours, b"data");
        record[HEADER] ^= 1;
        heard(&mut theirs, &record).unwrap_err();
        let mut alert = said(&mut theirs);
        // bad_record_mac
        assert_eq!(ours.open(&mut alert), Err(SessionError::Alert(20)));
    });
}
