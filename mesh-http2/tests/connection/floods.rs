//! Peers that do without end what is allowed once.

use crate::under_test::{CONFIG, Role, State, Told, UnderTest};
use crate::wire::{
    self, CONTINUATION, END_HEADERS, HEADERS, connect, data, frame, headers, ping, settings,
    window_update,
};
use mesh_http2::{Config, ErrorCode};

const WHOLE: usize = usize::MAX;
const CALM: Option<ErrorCode> = Some(ErrorCode::ENHANCE_YOUR_CALM);
/// What the crate allows: see `limits.rs`.
const ABANDONED: u32 = 4096;
const BROKEN: u32 = 256;
const CONTROL: usize = 128 << 10;

fn request(id: u32) -> Vec<u8> {
    headers(0, id, &connect())
}

/// Stream identifiers from here on.
fn ids(from: u32) -> impl Iterator<Item = u32> {
    (from..).step_by(2)
}

/// Which of the inputs is an error, and its code.
fn until_error(test: &mut UnderTest, inputs: impl Iterator<Item = Vec<u8>>) -> (u32, ErrorCode) {
    let mut count = 0;
    for input in inputs.take(100_000) {
        count += 1;
        if let Some(code) = test.outcome(&input, WHOLE).error {
            return (count, code);
        }
    }
    panic!("{count} times, and no error");
}

#[test]
fn requests_that_are_given_up_at_once_end_the_connection() {
    let mut test = UnderTest::new(Role::Server, State::Ready);
    let rapid = |id| [request(id), wire::reset(id, 8)].concat();
    let (count, code) = until_error(&mut test, ids(1).map(rapid));
    assert_eq!((count, Some(code)), (ABANDONED + 1, CALM));
}

#[test]
fn requests_that_are_refused_end_the_connection() {
    let mut test = UnderTest::new(Role::Server, State::Open);
    test.open(3);
    let (count, code) = until_error(&mut test, ids(5).map(request));
    assert_eq!((count, Some(code)), (ABANDONED + 1, CALM));
}

#[test]
fn requests_that_are_answered_or_long_ago_do_not_count() {
    let mut test = UnderTest::new(Role::Server, State::Ready);
    for (n, id) in ids(1).take(20_000).enumerate() {
        test.open(id);
        if n % 2 == 0 {
            test.answer(id);
        }
        test.feed(&wire::reset(id, 8));
    }
    let rapid = |id| [request(id), wire::reset(id, 8)].concat();
    for id in ids(40_001).take(10_000) {
        test.feed(&rapid(id));
        if id % 8000 == 1 {
            test.connection.forgive();
        }
    }
}

#[test]
fn streams_on_which_the_rules_are_broken_end_the_connection() {
    let broken: [fn(u32) -> Vec<u8>; 4] = [
        |id| headers(0, id, &[0x82]),
        |id| [request(id), window_update(id, 0)].concat(),
        |id| [request(id), window_update(id, (1 << 31) - 1)].concat(),
        |id| [request(id), wire::reset(id, 8), data(0, id, b"x")].concat(),
    ];
    for (n, broken) in broken.into_iter().enumerate() {
        let mut test = UnderTest::new(Role::Server, State::Ready);
        let (count, code) = until_error(&mut test, ids(1).map(broken));
        assert_eq!((count, Some(code)), (BROKEN + 1, CALM), "the {n}th");
        // An interval later they are forgiven.
        let mut test = UnderTest::new(Role::Server, State::Ready);
        for id in ids(1).take(1000) {
            test.feed(&broken(id));
            if id % 250 == 1 {
                test.connection.forgive();
            }
        }
    }
}

#[test]
fn a_server_may_reset_what_a_client_asks_for() {
    let mut test = UnderTest::new(Role::Client, State::Ready);
    for id in ids(1).take(10_000) {
        test.open(id);
        test.feed(&wire::reset(id, 7));
    }
    assert!(test.connection.can_open());
}

#[test]
fn answers_that_are_not_read_end_the_connection_before_they_fill_memory() {
    let empty_settings = settings(&[]);
    // One input of several MiB: the bound holds within it.
    for (what, flood) in [("SETTINGS", empty_settings), ("PING", ping(&[0; 8]))] {
        for role in [Role::Client, Role::Server] {
            let mut test = UnderTest::new(role, State::Open);
            let input = flood.repeat(300_000);
            let mut rest = &input[..];
            let error = loop {
                match test.connection.receive(&mut rest) {
                    Ok(event) => assert!(event.is_some(), "{what}: all of it was taken"),
                    Err(error) => break error,
                }
            };
            assert_eq!(Some(error.code), CALM, "{what}");
            assert!(test.connection.control().len() <= CONTROL + 64, "{what}");
        }
    }
    // A peer that reads them may go on.
    let mut test = UnderTest::new(Role::Server, State::Open);
    for _ in 0..100 {
        let outcome = test.outcome(&ping(&[0; 8]).repeat(1000), WHOLE);
        assert_eq!(outcome.sent.len(), 1000);
    }
}

#[test]
fn responses_that_are_not_read_end_the_connection() {
    let mut test = UnderTest::new(Role::Server, State::Ready);
    let error = ids(1).take(100_000).find_map(|id| {
        let input = headers(wire::END_STREAM, id, &connect());
        let mut rest = &input[..];
        let result = test.connection.receive(&mut rest);
        test.connection
            .respond(id, [(&b":status"[..], &b"403"[..])], true);
        result.err()
    });
    assert_eq!(error.map(|e| e.code), CALM);
    assert!(test.connection.control().len() <= CONTROL + 256);
}

#[test]
fn our_own_requests_that_wait_are_no_fault_of_the_peer() {
    let mut test = UnderTest::new(Role::Client, State::Ready);
    test.feed(&settings(&[(3, 100_000)]));
    test.connection.control().clear();
    let long = [b'x'; 1000];
    let fields = [
        (&b":method"[..], &b"CONNECT"[..]),
        (b":authority", b"a:1"),
        (b"baggage", &long),
    ];
    while test.connection.control().len() < 4 * CONTROL {
        assert!(test.connection.request(fields).is_some());
    }
    let input = ping(&[0; 8]);
    let mut rest = &input[..];
    assert!(matches!(test.connection.receive(&mut rest), Ok(None)));
    // What the peer causes is bounded still, also once they have been written.
    test.connection.control().clear();
    let flood = ping(&[0; 8]).repeat(2 * CONTROL / 17);
    assert_eq!(test.outcome(&flood, WHOLE).error, CALM);
}

#[test]
fn small_window_updates_are_taken_one_by_one() {
    let mut test = UnderTest::new(Role::Server, State::Open);
    for _ in 0..100 {
        let flood = [window_update(0, 1), window_update(1, 1)].concat();
        let outcome = test.outcome(&flood.repeat(1000), WHOLE);
        assert_eq!((outcome.sent.len(), outcome.error), (0, None));
    }
    assert_eq!(test.connection.capacity(1), 65_535 + 100_000);
}

#[test]
fn a_block_that_decodes_to_far_more_than_it_has_bytes_ends_the_connection() {
    // An entry of 4,000 bytes in the dynamic table, and a block that adds it again with every two bytes.
    let name = "n".repeat(3000);
    let mut add = wire::block(&[(":method", "CONNECT"), (":authority", "a:1"), (&name, "")]);
    let at = add.len() - name.len() - 5;
    assert_eq!(add[at], 0);
    add[at] = 0x40;
    let config = Config {
        max_header_list: 16_384,
        ..CONFIG
    };
    let mut test = UnderTest::with(config, Role::Server, State::Ready);
    let first = test.outcome(&headers(0, 1, &add), WHOLE);
    assert_eq!(first.told, [Told::Head(1, false)]);
    for bomb in [&[0x7e, 0][..], &[0xbe]] {
        let mut test = UnderTest::with(config, Role::Server, State::Ready);
        test.feed(&headers(0, 1, &add));
        let outcome = test.outcome(&headers(0, 3, &bomb.repeat(10_000)), WHOLE);
        assert_eq!(outcome.error, CALM);
    }
}

#[test]
fn a_block_in_many_pieces_is_sound_and_an_endless_one_is_not() {
    let block = connect();
    let piece = |byte: &u8| frame(CONTINUATION, 0, 1, &[*byte]);
    let mut input = frame(HEADERS, 0, 1, &[]);
    input.extend(block.iter().flat_map(piece));
    input.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    let mut test = UnderTest::new(Role::Server, State::Ready);
    assert_eq!(test.outcome(&input, 3).told, [Told::Head(1, false)]);

    let mut test = UnderTest::new(Role::Server, State::Ready);
    test.feed(&frame(HEADERS, 0, 1, &[]));
    let (count, code) = until_error(&mut test, (0..).map(|_| frame(CONTINUATION, 0, 1, &[0x82])));
    assert_eq!((count, Some(code)), ((64 << 10) + 1, CALM));
}
