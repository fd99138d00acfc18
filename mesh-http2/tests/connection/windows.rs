//! Flow control: what is counted, given back and announced.

use crate::under_test::{CONFIG, Outcome, Role, State, Told, UnderTest};
use crate::wire::{
    self, DATA, END_STREAM, PADDED, WINDOW_UPDATE, data, number, settings, settings_ack,
    window_update,
};
use mesh_http2::{Config, ErrorCode};

const BOTH: [Role; 2] = [Role::Client, Role::Server];
const WHOLE: usize = usize::MAX;

/// The increments announced for a stream, or for the connection as stream 0.
fn increments(outcome: &Outcome, stream: u32) -> Vec<u32> {
    let updates = outcome.sent.iter();
    let updates = updates.filter(|f| f.kind == WINDOW_UPDATE && f.stream == stream);
    updates.map(|f| number(&f.payload)).collect()
}

#[test]
fn a_stream_that_is_reset_within_a_data_frame_is_told_of_no_more() {
    // Half of the connection's window is announced at once: 32,768 bytes are more.
    let content = vec![7; 32_000];
    let padded = [&[255][..], &content, &[0; 255]].concat();
    for role in BOTH {
        for (flags, payload) in [(0, &content), (END_STREAM, &content), (PADDED, &padded)] {
            let whole = data(flags, 1, payload);
            for cut in [9, 10, 11, 20, 32_000] {
                let name = format!("{role:?}, flags {flags}, cut at {cut}");
                let mut test = UnderTest::new(role, State::Open);
                let first = test.outcome(&whole[..cut], WHOLE);
                let read: usize = first.told.iter().map(content_of).sum();
                test.connection.reset(1, ErrorCode::CANCEL);
                let reset = wire::frames(&wire::reset(1, 8));
                assert_eq!(test.waiting().sent, reset, "{name}");
                let rest = test.outcome(&whole[cut..], 1000);
                assert_eq!(rest.told, [], "{name}");
                assert_eq!(rest.error, None, "{name}");
                // All of the frame is back once the owner has given back what it was told of: with
                // as much of another stream as is missing to one half, that half is announced.
                test.connection.release(1, read);
                let half = 65_535 / 2;
                let missing = half - payload.len();
                assert_eq!(increments(&test.waiting(), 0), [], "{name}");
                test.open(3);
                test.answer(3);
                test.waiting();
                test.feed(&data(0, 3, &vec![0; missing]));
                test.connection.release(3, missing - 1);
                assert_eq!(increments(&test.waiting(), 0), [], "{name}");
                test.connection.release(3, 1);
                let all = u32::try_from(half).unwrap();
                assert_eq!(increments(&test.waiting(), 0), [all], "{name}");
            }
        }
    }
}

fn content_of(told: &Told) -> usize {
    match told {
        Told::Data(_, content, _) => content.len(),
        _ => 0,
    }
}

#[test]
fn padding_costs_no_window() {
    for role in BOTH {
        let mut test = UnderTest::new(role, State::Open);
        let (mut stream, mut connection) = (40_000_i64, 65_535_i64);
        for _ in 0..2000 {
            let outcome = test.outcome(&data(PADDED, 1, &[&[200, 1][..], &[0; 200]].concat()), 50);
            assert_eq!(outcome.told, [Told::Data(1, vec![1], false)]);
            test.connection.release(1, 1);
            let more = test.waiting();
            for (window, id) in [(&mut stream, 1), (&mut connection, 0)] {
                let announced = increments(&outcome, id).into_iter();
                let announced = announced.chain(increments(&more, id)).map(i64::from);
                *window += announced.sum::<i64>() - 202;
                assert!(*window > 202, "{role:?}: a window leaks");
            }
        }
    }
}

#[test]
fn data_that_nobody_wants_costs_no_window() {
    for state in [State::ResetHere, State::Closed, State::HalfClosedRemote] {
        let mut test = UnderTest::new(Role::Server, state);
        let mut window = 65_535_i64;
        for _ in 0..200 {
            let outcome = test.outcome(&data(PADDED, 1, &[9; 1000]), WHOLE);
            assert_eq!(outcome.error, None);
            window += increments(&outcome, 0)
                .into_iter()
                .map(i64::from)
                .sum::<i64>()
                - 1000;
            assert!(window > 1000, "{state:?}: the connection's window leaks");
        }
    }
}

#[test]
fn no_more_is_given_back_than_came() {
    for role in BOTH {
        let mut test = UnderTest::new(role, State::Open);
        test.connection.release(1, usize::MAX);
        assert_eq!(test.waiting(), Outcome::default());
        test.feed(&data(0, 1, &[0; 30_000]));
        test.connection.release(1, usize::MAX);
        let outcome = test.waiting();
        assert_eq!(increments(&outcome, 1), [30_000]);
        assert_eq!(increments(&outcome, 0), []);
        test.connection.release(1, 5000);
        test.feed(&data(0, 1, &[0; 5000]));
        test.connection.release(1, 5000);
        assert_eq!(increments(&test.waiting(), 0), [35_000]);
    }
}

#[test]
fn a_smaller_window_than_the_default_counts_once_it_is_acknowledged() {
    let config = Config {
        stream_window: 10,
        ..CONFIG
    };
    let bytes = vec![0; 30_000];
    let early = [data(0, 1, &bytes), data(0, 1, &bytes)].concat();
    for acknowledged in [false, true] {
        let mut test = UnderTest::with(config, Role::Server, State::Fresh);
        test.feed(&[wire::PREFACE, &settings(&[])].concat());
        test.open(1);
        test.answer(1);
        test.waiting();
        if !acknowledged {
            assert_eq!(test.outcome(&early, WHOLE).error, None);
            test.connection.release(1, 60_000 - 10);
            test.waiting();
            // 65,535 less what was received, plus what was announced, less what is no longer allowed.
            test.feed(&settings_ack());
            test.connection.release(1, 10);
            test.waiting();
        } else {
            test.feed(&settings_ack());
        }
        test.feed(&data(0, 1, &[0; 10]));
        let outcome = test.outcome(&data(0, 1, b"x"), WHOLE);
        let too_much = Told::Reset(1, ErrorCode::FLOW_CONTROL_ERROR);
        assert_eq!(outcome.told, [too_much], "acknowledged: {acknowledged}");
    }
}

#[test]
fn windows_of_one_byte_and_of_none() {
    for stream_window in [0, 1] {
        let config = Config {
            stream_window,
            ..CONFIG
        };
        let mut test = UnderTest::with(config, Role::Server, State::Open);
        test.connection.release(1, 0);
        test.feed(&data(END_STREAM, 1, &vec![7; stream_window as usize]));
        test.connection.release(1, stream_window as usize);
        assert_eq!(test.waiting().sent, []);
    }
    let config = Config {
        stream_window: 1,
        ..CONFIG
    };
    let mut test = UnderTest::with(config, Role::Server, State::Open);
    for _ in 0..100 {
        test.feed(&data(0, 1, b"x"));
        test.connection.release(1, 1);
        assert_eq!(increments(&test.waiting(), 1), [1]);
    }
}

#[test]
fn a_smaller_initial_window_stops_a_stream_and_its_end_still_passes() {
    for role in BOTH {
        let mut test = UnderTest::new(role, State::Open);
        assert!(test.connection.data(1, 1000, false).is_some());
        test.feed(&settings(&[(4, 500)]));
        assert_eq!(test.connection.capacity(1), 0);
        assert_eq!(test.connection.data(1, 1, false), None);
        // 500 less than nothing: 501 give one byte.
        test.feed(&window_update(1, 501));
        assert_eq!(test.connection.capacity(1), 1);
        assert_eq!(test.connection.data(1, 2, false), None);
        assert!(test.connection.data(1, 1, false).is_some());
        assert!(test.connection.data(1, 0, true).is_some());
        assert_eq!(test.connection.data(1, 0, true), None, "a second end");
    }
}

#[test]
fn a_frame_of_data_has_at_most_what_every_peer_takes() {
    let mut test = UnderTest::new(Role::Client, State::Open);
    test.feed(&[settings(&[(5, 1 << 20)]), window_update(1, 1 << 20)].concat());
    assert_eq!(test.connection.data(1, 16_385, false), None);
    assert_eq!(test.connection.data(1, usize::MAX, false), None);
    let header = test.connection.data(1, 16_384, false);
    assert_eq!(
        header.map(|h| h.to_vec()),
        Some(wire::header(16_384, DATA, 0, 1))
    );
}
