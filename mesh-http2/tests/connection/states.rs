//! What streams and connections go through, in orders that a table of single inputs does not meet.

use crate::under_test::{CONFIG, Outcome, Role, State, Told, UnderTest};
use crate::wire::{
    self, ACK, DATA, END_STREAM, PING, RST_STREAM, block, connect, data, frame, header, headers,
    number, settings, window_update,
};
use mesh_http2::{Config, Connection, ErrorCode, Event};

const BOTH: [Role; 2] = [Role::Client, Role::Server];
const WHOLE: usize = usize::MAX;

#[test]
fn what_comes_late_for_any_number_of_reset_streams_is_no_error() {
    let mut test = UnderTest::new(Role::Client, State::Ready);
    test.feed(&settings(&[(3, 2000)]));
    test.waiting();
    for n in 0..1000 {
        test.open(2 * n + 1);
    }
    test.waiting();
    for n in 0..999 {
        test.connection.reset(2 * n + 1, ErrorCode::CANCEL);
    }
    test.waiting();
    let answer = block(&[(":status", "200")]);
    for n in 0..999 {
        let id = 2 * n + 1;
        let late = [headers(0, id, &answer), data(END_STREAM, id, b"late")].concat();
        assert_eq!(
            test.outcome(&late, WHOLE),
            Outcome::default(),
            "stream {id}"
        );
    }
    // The one that was not reset lives.
    let outcome = test.outcome(&headers(0, 1999, &answer), WHOLE);
    assert_eq!(outcome.told, [Told::Head(1999, false)]);
}

#[test]
fn before_the_servers_settings_100_streams_are_opened() {
    let mut test = UnderTest::with(CONFIG, Role::Client, State::Fresh);
    assert_eq!(test.connection.max_streams(), 100);
    for n in 0..100 {
        test.open(2 * n + 1);
    }
    assert!(!test.connection.can_open());
    test.feed(&settings(&[]));
    test.open(201);
    // Less than there are is no error; there are no more until some end.
    test.feed(&settings(&[(3, 1)]));
    assert!(!test.connection.can_open());
}

#[test]
fn an_end_that_leaves_opens_nothing_more() {
    let mut test = UnderTest::new(Role::Client, State::Open);
    test.connection.leave();
    let leaving = test.waiting().sent;
    assert!(!test.connection.can_open() && !test.connection.is_over());
    let [goaway, ping] = &leaving[..] else {
        panic!("{leaving:?}")
    };
    assert_eq!(goaway.payload, [0; 8]);
    test.feed(&frame(PING, ACK, 0, &ping.payload));
    test.waiting();
    assert!(!test.connection.is_over(), "stream 1 is open");
    test.feed(&wire::reset(1, 8));
    assert!(test.connection.is_over());
}

#[test]
fn a_server_that_leaves_names_its_last_stream_once_and_for_all() {
    let last = |outcome: &Outcome| {
        let goaway = outcome.sent.iter().find(|f| f.kind == wire::GOAWAY);
        number(&goaway.unwrap().payload[..4])
    };
    let mut test = UnderTest::new(Role::Server, State::Open);
    test.connection.leave();
    test.connection.leave();
    let leaving = test.waiting();
    assert_eq!(leaving.sent.len(), 2, "GOAWAY and PING");
    assert_eq!(last(&leaving), (1 << 31) - 1);
    // The peer opened this before it knew.
    test.open(3);
    test.feed(&wire::reset(1, 8));
    let answered = test.outcome(&frame(PING, ACK, 0, &leaving.sent[1].payload), WHOLE);
    assert_eq!(last(&answered), 3);
    // It knew: this is refused, and does not count.
    let refused = test.outcome(&headers(0, 5, &connect()), WHOLE);
    assert_eq!(refused.sent, wire::frames(&wire::reset(5, 7)));
    assert_eq!(refused.told, []);
    test.connection.close(ErrorCode::NO_ERROR);
    assert_eq!(last(&test.waiting()), 3);
}

#[test]
fn streams_that_the_goaway_leaves_out_are_told_of_before_the_end() {
    let mut test = UnderTest::new(Role::Client, State::Asked);
    test.open(3);
    test.open(5);
    let input = [wire::goaway(1, 0), wire::reset(1, 8)].concat();
    let mut rest = &input[..];
    let mut told = Vec::new();
    while !test.connection.is_over() {
        let event = test.connection.receive(&mut rest).unwrap();
        told.push(format!("{:?}", event.unwrap()));
    }
    let resets: Vec<_> = told.iter().filter(|t| t.starts_with("Reset")).collect();
    assert_eq!(resets.len(), 3, "{told:?}");
    assert!(resets[0].contains("stream: 3") && resets[1].contains("stream: 5"));
}

#[test]
fn a_stream_that_the_goaway_leaves_out_and_that_was_reset_since_is_told_of_no_more() {
    let mut test = UnderTest::new(Role::Client, State::Asked);
    test.open(3);
    let input = wire::goaway(0, 0);
    let mut rest = &input[..];
    let told = test.connection.receive(&mut rest).unwrap();
    assert!(matches!(told, Some(Event::GoAway(_))));
    test.connection.reset(1, ErrorCode::CANCEL);
    let outcome = test.waiting();
    assert_eq!(outcome.told, []);
    let refused = Told::Reset(3, ErrorCode::REFUSED_STREAM);
    assert_eq!(test.outcome(&wire::ping(&[0; 8]), WHOLE).told, [refused]);
    assert!(test.connection.is_over());
}

#[test]
fn after_the_end_nothing_is_said_and_nothing_is_heard() {
    for role in BOTH {
        for by_peer in [false, true] {
            let mut test = UnderTest::new(role, State::Open);
            test.feed(&data(0, 1, &[0; 30_000]));
            match by_peer {
                true => {
                    assert!(test.outcome(&window_update(0, 0), WHOLE).error.is_some());
                }
                false => test.connection.close(ErrorCode::NO_ERROR),
            }
            test.waiting();
            let connection = &mut test.connection;
            connection.release(1, 30_000);
            assert_eq!(connection.streams(), 1);
            connection.reset(1, ErrorCode::CANCEL);
            assert_eq!(connection.streams(), 0);
            connection.ping([0; 8]);
            connection.leave();
            connection.close(ErrorCode::INTERNAL_ERROR);
            assert!(!connection.respond(1, [(&b":status"[..], &b"200"[..])], true));
            assert_eq!(connection.capacity(1), 0);
            assert_eq!(connection.data(1, 0, true), None);
            assert!(!connection.can_open() && connection.is_over());
            assert_eq!(
                test.outcome(&wire::ping(&[0; 8]), WHOLE),
                Outcome::default()
            );
        }
    }
}

#[test]
fn a_configuration_out_of_range_announces_what_is_in_range() {
    let smallest = Config {
        stream_window: 0,
        connection_window: 0,
        max_frame_size: 0,
        max_streams: 0,
        max_header_list: 0,
    };
    let largest = Config {
        stream_window: u32::MAX,
        connection_window: u32::MAX,
        max_frame_size: u32::MAX,
        max_streams: u32::MAX,
        max_header_list: u32::MAX,
    };
    let most = (1 << 31) - 1;
    for (config, window, frame_size, update) in [
        (smallest, 0, 1 << 14, None),
        (largest, most, (1 << 24) - 1, Some(most - 65_535)),
    ] {
        let bytes = std::mem::take(Connection::server(config).control());
        let frames = wire::frames(&bytes);
        let setting = |id: u16| {
            let mut entries = frames[0].payload.chunks(6);
            let entry = entries.find(|e| e[..2] == id.to_be_bytes()).unwrap();
            number(&entry[2..])
        };
        assert_eq!((setting(4), setting(5)), (window, frame_size));
        let announced = frames.get(1).map(|f| f.payload.clone());
        assert_eq!(announced, update.map(|u: u32| u.to_be_bytes().to_vec()));
        // And the peer accepts it.
        let mut peer = UnderTest::with(CONFIG, Role::Client, State::Fresh);
        peer.feed(&bytes);
    }
}

#[test]
fn an_unknown_frame_may_have_any_size_that_was_announced() {
    let config = Config {
        max_frame_size: 1 << 20,
        ..CONFIG
    };
    let mut test = UnderTest::with(config, Role::Server, State::Open);
    let outcome = test.outcome(&frame(0xfa, 0, 0, &vec![0; 1 << 20]), 10_000);
    assert_eq!(outcome, Outcome::default());
}

#[test]
fn a_large_request_goes_out_in_frames_that_the_peer_takes() {
    let mut test = UnderTest::new(Role::Client, State::Ready);
    let value = vec![b'v'; 40_000];
    let fields = [
        (&b":method"[..], &b"CONNECT"[..]),
        (b":authority", b"a:1"),
        (b"large", &value),
    ];
    test.connection.request(fields).unwrap();
    let frames = test.waiting().sent;
    let kinds: Vec<_> = frames.iter().map(|f| (f.kind, f.flags)).collect();
    assert_eq!(kinds, [(1, 0), (9, 0), (9, 4)]);
    assert!(frames.iter().all(|f| f.payload.len() <= 16_384));
}

#[test]
fn an_answer_comes_once_and_only_to_a_request() {
    let ok = [(&b":status"[..], &b"200"[..])];
    let mut client = UnderTest::new(Role::Client, State::Asked);
    assert!(!client.connection.respond(1, ok, true));
    let mut server = UnderTest::new(Role::Server, State::Asked);
    assert_eq!(
        server.connection.data(1, 0, true),
        None,
        "before the answer"
    );
    assert!(!server.connection.respond(3, ok, true));
    assert!(server.connection.respond(1, ok, true));
    assert!(!server.connection.respond(1, ok, true));
    assert_eq!(server.connection.request(ok), None);
    // The request may still end; then the stream is gone.
    let end = server.outcome(&data(END_STREAM, 1, b""), WHOLE);
    assert_eq!(end.told, [Told::Data(1, vec![], true)]);
    assert_eq!(server.connection.streams(), 0);
}

#[test]
fn half_a_frame_is_told_of_as_it_comes() {
    let mut test = UnderTest::new(Role::Server, State::Open);
    let start = [header(10, DATA, END_STREAM, 1), b"12345".to_vec()].concat();
    let first = test.outcome(&start, WHOLE);
    assert_eq!(first.told, [Told::Data(1, b"12345".to_vec(), false)]);
    let reset = wire::frames(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    let rest = test.outcome(b"67890", 2);
    assert_eq!(rest.told, [Told::Data(1, b"67890".to_vec(), true)]);
    test.connection.reset(1, ErrorCode::CANCEL);
    assert_eq!(test.waiting().sent, reset);
}
