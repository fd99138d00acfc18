//! Section 5: what may come in each state of a stream.

use super::{BOTH, CLIENT, Expect, SERVER, State, Told, case, check_all};
use crate::wire::{
    self, CONTINUATION, END_HEADERS, END_STREAM, PRIORITY, block, connect, data, frame, headers,
    window_update,
};
use mesh_http2::ErrorCode;

const PROTOCOL: Expect = Expect::Connection(ErrorCode::PROTOCOL_ERROR);
const CLOSED: Expect = Expect::Connection(ErrorCode::STREAM_CLOSED);
const STREAM_CLOSED: Expect = Expect::Stream(1, ErrorCode::STREAM_CLOSED);

fn told(told: Told) -> Expect {
    Expect::Told(vec![told])
}

#[test]
fn section_5_1_idle() {
    use State::Ready;
    #[rustfmt::skip]
    check_all(&[
        case("5.1", "idle: DATA", BOTH, Ready, data(0, 1, b"x"), PROTOCOL),
        case("5.1", "idle: RST_STREAM", BOTH, Ready, wire::reset(1, 0), PROTOCOL),
        case("5.1", "idle: WINDOW_UPDATE", BOTH, Ready, window_update(1, 1), PROTOCOL),
        case("5.1", "idle: CONTINUATION", BOTH, Ready, frame(CONTINUATION, END_HEADERS, 1, &[]), PROTOCOL),
        case("5.1", "idle: a response", CLIENT, Ready, headers(0, 1, &[0x88]), PROTOCOL),
        case("5.1", "idle: a request", SERVER, Ready, headers(0, 1, &connect()), told(Told::Head(1, false))),
        case("5.1", "idle: PRIORITY", BOTH, Ready, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
        case("5.1", "an even stream, never promised: DATA", BOTH, Ready, data(0, 2, b"x"), PROTOCOL),
        case("5.1", "an even stream, never promised: WINDOW_UPDATE", BOTH, Ready, window_update(2, 1), PROTOCOL),
    ]);
}

#[test]
fn section_5_1_open_and_half_closed() {
    use State::{HalfClosedLocal, HalfClosedRemote, Open};
    let content = |end| told(Told::Data(1, b"x".to_vec(), end));
    let gone = || told(Told::Reset(1, ErrorCode::CANCEL));
    let trailers = || headers(END_STREAM, 1, &block(&[("a", "b")]));
    #[rustfmt::skip]
    check_all(&[
        case("5.1", "open: DATA", BOTH, Open, data(0, 1, b"x"), content(false)),
        case("5.1", "open: PRIORITY", BOTH, Open, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
        case("5.1", "half closed (remote): DATA", BOTH, HalfClosedRemote, data(0, 1, b"x"), STREAM_CLOSED),
        case("5.1", "half closed (remote): the end again", BOTH, HalfClosedRemote, data(END_STREAM, 1, b""), STREAM_CLOSED),
        case("5.1", "half closed (remote): HEADERS", BOTH, HalfClosedRemote, trailers(), STREAM_CLOSED),
        case("5.1", "half closed (remote): WINDOW_UPDATE", BOTH, HalfClosedRemote, window_update(1, 1), told(Told::Window(Some(1)))),
        case("5.1", "half closed (remote): RST_STREAM", BOTH, HalfClosedRemote, wire::reset(1, 8), gone()),
        case("5.1", "half closed (remote): PRIORITY", BOTH, HalfClosedRemote, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
        case("5.1", "half closed (local): DATA", BOTH, HalfClosedLocal, data(0, 1, b"x"), content(false)),
        case("5.1", "half closed (local): the end", BOTH, HalfClosedLocal, data(END_STREAM, 1, b"x"), content(true)),
        case("5.1", "half closed (local): WINDOW_UPDATE", BOTH, HalfClosedLocal, window_update(1, 1), told(Told::Window(Some(1)))),
        case("5.1", "half closed (local): RST_STREAM", BOTH, HalfClosedLocal, wire::reset(1, 8), gone()),
        case("5.1", "half closed (local): PRIORITY", BOTH, HalfClosedLocal, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
    ]);
}

#[test]
fn section_5_1_closed() {
    use State::{Closed, ResetHere, ResetThere};
    let trailers = || headers(END_STREAM, 1, &block(&[("a", "b")]));
    let refused = || Expect::Refused(1, ErrorCode::STREAM_CLOSED);
    #[rustfmt::skip]
    check_all(&[
        case("5.1", "closed: DATA", BOTH, Closed, data(0, 1, b"x"), refused()),
        case("5.1", "closed: DATA twice", BOTH, Closed, data(0, 1, b"x").repeat(2), refused()),
        case("5.1", "closed: HEADERS", BOTH, Closed, trailers(), CLOSED),
        case("5.1", "closed: WINDOW_UPDATE", BOTH, Closed, window_update(1, 1), Expect::Nothing),
        case("5.1", "closed: RST_STREAM", BOTH, Closed, wire::reset(1, 8), Expect::Nothing),
        case("5.1", "closed: PRIORITY", BOTH, Closed, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
        case("5.1", "reset by the peer: DATA", BOTH, ResetThere, data(0, 1, b"x"), refused()),
        case("5.1", "reset by the peer: HEADERS", BOTH, ResetThere, trailers(), CLOSED),
        case("5.1", "reset by the peer: RST_STREAM", BOTH, ResetThere, wire::reset(1, 8), Expect::Nothing),
        case("5.1", "reset by us: DATA", BOTH, ResetHere, data(0, 1, b"x"), Expect::Nothing),
        case("5.1", "reset by us: the end", BOTH, ResetHere, data(END_STREAM, 1, b"x"), Expect::Nothing),
        case("5.1", "reset by us: HEADERS", BOTH, ResetHere, trailers(), Expect::Nothing),
        case("5.1", "reset by us: WINDOW_UPDATE", BOTH, ResetHere, window_update(1, 1), Expect::Nothing),
        case("5.1", "reset by us: RST_STREAM", BOTH, ResetHere, wire::reset(1, 8), Expect::Nothing),
    ]);
}

#[test]
fn section_5_1_1_and_5_1_2_identifiers_and_numbers() {
    use State::{Open, Ready};
    let request = |id| headers(0, id, &connect());
    let head = |id| Told::Head(id, false);
    #[rustfmt::skip]
    check_all(&[
        case("5.1.1", "a client's stream with an even number", SERVER, Ready, request(2), PROTOCOL),
        case("5.1.1", "a stream that no one asked for", CLIENT, Open, headers(0, 2, &[0x88]), PROTOCOL),
        case("5.1.1", "an answer to a request that was never made", CLIENT, Open, headers(0, 3, &[0x88]), PROTOCOL),
        case("5.1.1", "numbers may be skipped", SERVER, Ready, request(101), told(head(101))),
        case("5.1.1", "the highest number", SERVER, Ready, request((1 << 31) - 1), told(head((1 << 31) - 1))),
        case("5.1.1", "a number that was skipped", SERVER, Ready, [request(5), request(3)].concat(),
            Expect::ToldThenConnection(vec![head(5)], ErrorCode::STREAM_CLOSED)),
        case("5.1.1", "DATA on a number that was skipped", SERVER, Ready, [request(5), data(0, 3, b"x")].concat(),
            Expect::ToldAndSent(vec![head(5)], wire::reset(3, 5))),
        case("5.1.1", "DATA on a number that is still to come", SERVER, Ready, [request(5), data(0, 7, b"x")].concat(),
            Expect::ToldThenConnection(vec![head(5)], ErrorCode::PROTOCOL_ERROR)),
        case("5.1.2", "as many streams as allowed", SERVER, Ready, [request(1), request(3)].concat(), Expect::Told(vec![head(1), head(3)])),
        case("5.1.2", "one stream more than allowed", SERVER, Ready, [request(1), request(3), request(5)].concat(),
            Expect::ToldAndSent(vec![head(1), head(3)], wire::reset(5, 7))),
        case("5.1.2", "a stream in the place of one that ended", SERVER, Ready, [request(1), request(3), wire::reset(1, 8), request(5)].concat(),
            Expect::Told(vec![head(1), head(3), Told::Reset(1, ErrorCode::CANCEL), head(5)])),
    ]);
}
