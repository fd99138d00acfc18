//! Sections 3, 4 and 6: the preface, frames, and what each type demands.

use super::{BOTH, CLIENT, Expect, SERVER, State, Told, case, check_all};
use crate::wire::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, connect, data,
    frame, header, headers, ping, settings, settings_ack, window_update,
};
use mesh_http2::ErrorCode;

const PROTOCOL: Expect = Expect::Connection(ErrorCode::PROTOCOL_ERROR);
const SIZE: Expect = Expect::Connection(ErrorCode::FRAME_SIZE_ERROR);
const FLOW: Expect = Expect::Connection(ErrorCode::FLOW_CONTROL_ERROR);
const CALM: Expect = Expect::Connection(ErrorCode::ENHANCE_YOUR_CALM);
const STREAM_SIZE: Expect = Expect::Stream(1, ErrorCode::FRAME_SIZE_ERROR);

#[test]
fn section_3_4_preface() {
    use State::Fresh;
    let greeting = |first: &[u8]| [PREFACE, first].concat();
    let settled = || Expect::ToldAndSent(vec![Told::Window(None)], settings_ack());
    #[rustfmt::skip]
    check_all(&[
        case("3.4", "preface and empty SETTINGS", SERVER, Fresh, greeting(&settings(&[])), settled()),
        case("3.4", "SETTINGS of the server", CLIENT, Fresh, settings(&[(3, 100)]), settled()),
        case("3.4", "a preface with one wrong byte", SERVER, Fresh, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec(), PROTOCOL),
        case("3.4", "HTTP/1.1 to a server", SERVER, Fresh, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), PROTOCOL),
        case("3.4", "HTTP/1.1 to a client", CLIENT, Fresh, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), PROTOCOL),
        case("3.4", "PING before SETTINGS", SERVER, Fresh, greeting(&ping(b"12345678")), PROTOCOL),
        case("3.4", "HEADERS before SETTINGS", CLIENT, Fresh, headers(0, 1, &[0x88]), PROTOCOL),
        case("3.4", "an acknowledgement before SETTINGS", SERVER, Fresh, greeting(&settings_ack()), PROTOCOL),
        case("3.4", "an acknowledgement before SETTINGS", CLIENT, Fresh, settings_ack(), PROTOCOL),
        case("3.4", "an extension frame before SETTINGS", CLIENT, Fresh, frame(0xfa, 0, 0, b"x"), PROTOCOL),
    ]);
}

#[test]
fn section_4_frames() {
    use State::{Open, Ready};
    let largest = vec![b'x'; 32_768];
    let told = |payload: &[u8]| Expect::Told(vec![Told::Data(1, payload.to_vec(), false)]);
    #[rustfmt::skip]
    check_all(&[
        case("4.1", "a frame of an unknown type", BOTH, Ready, frame(0xfa, 0xff, 0, b"whatever"), Expect::Nothing),
        case("4.1", "an empty frame of an unknown type on a stream", BOTH, Ready, frame(0xfa, 0, 99, b""), Expect::Nothing),
        case("4.1", "the largest frame of an unknown type", BOTH, Ready, frame(0xfa, 0, 3, &largest), Expect::Nothing),
        case("4.1", "unknown flags", BOTH, Ready, frame(PING, 0xfe, 0, b"12345678"), Expect::Sent(frame(PING, ACK, 0, b"12345678"))),
        case("4.1", "the reserved bit", BOTH, Ready, frame(PING, 0, 1 << 31, b"12345678"), Expect::Sent(frame(PING, ACK, 0, b"12345678"))),
        case("4.2", "the largest DATA frame", BOTH, Open, data(0, 1, &largest), told(&largest)),
        case("4.2", "DATA above SETTINGS_MAX_FRAME_SIZE", BOTH, Open, header(32_769, DATA, 0, 1), SIZE),
        case("4.2", "HEADERS above SETTINGS_MAX_FRAME_SIZE", SERVER, Ready, header(32_769, HEADERS, 0, 1), SIZE),
        case("4.2", "an unknown frame above SETTINGS_MAX_FRAME_SIZE", BOTH, Ready, header(32_769, 0xfa, 0, 0), SIZE),
        case("4.2", "a PING that is far too large", BOTH, Ready, header(30_000, PING, 0, 0), SIZE),
    ]);
}

#[test]
fn section_4_3_header_blocks() {
    use State::{Open, Ready};
    let compression = || Expect::Connection(ErrorCode::COMPRESSION_ERROR);
    let request = |block: &[u8]| headers(0, 1, block);
    let opened = |id| Expect::Told(vec![Told::Head(id, false)]);
    let interrupted = |by: Vec<u8>| {
        let start = frame(HEADERS, 0, 1, &connect());
        [start, by].concat()
    };
    // :authority added to the dynamic table by a request that is refused, and used by the next.
    let add = [
        &wire::block(&[(":method", "BAD METHOD")])[..],
        b"\x41\x03a:1",
    ]
    .concat();
    let reuse = [&wire::block(&[(":method", "CONNECT")])[..], b"\xbe"].concat();
    let refused_then_used = [headers(0, 1, &add), headers(0, 3, &reuse)].concat();
    #[rustfmt::skip]
    check_all(&[
        case("4.3", "index 0", SERVER, Ready, request(&[0x80]), compression()),
        case("4.3", "an index that no table has", SERVER, Ready, request(&[0xff, 0]), compression()),
        case("4.3", "a field that is cut off", SERVER, Ready, request(&[0x00, 0x05, b'a']), compression()),
        case("4.3", "a string that is no Huffman code", SERVER, Ready, request(&[0x00, 0x81, 0x00, 0x00]), compression()),
        case("4.3", "a table larger than SETTINGS_HEADER_TABLE_SIZE", SERVER, Ready, request(&[0x3f, 0xe2, 0x1f]), compression()),
        case("4.3", "a change of the table's size after a field", SERVER, Ready, request(&[0x82, 0x20]), compression()),
        case("4.3", "a broken block on a stream that is open", BOTH, Open, request(&[0x80]), compression()),
        case("4.3", "a refused request keeps the tables in step", SERVER, Ready, refused_then_used,
            Expect::ToldAndSent(vec![Told::Head(3, false)], wire::reset(1, 1))),
        case("4.3", "a block interrupted by DATA", SERVER, Ready, interrupted(data(0, 1, b"x")), PROTOCOL),
        case("4.3", "a block interrupted by PING", SERVER, Ready, interrupted(ping(b"12345678")), PROTOCOL),
        case("4.3", "a block interrupted by another block", SERVER, Ready, interrupted(headers(0, 3, &connect())), PROTOCOL),
        case("4.3", "a block interrupted by its own beginning", SERVER, Ready, interrupted(headers(0, 1, &[])), PROTOCOL),
        case("4.3", "a block continued on another stream", SERVER, Ready, interrupted(frame(CONTINUATION, END_HEADERS, 3, &[])), PROTOCOL),
        case("5.5", "a block interrupted by an extension frame", SERVER, Ready, interrupted(frame(0xfa, 0, 1, b"x")), PROTOCOL),
        case("6.10", "CONTINUATION that ends a block", SERVER, Ready, interrupted(frame(CONTINUATION, END_HEADERS, 1, &[])), opened(1)),
        case("6.10", "CONTINUATION without HEADERS", BOTH, Open, frame(CONTINUATION, END_HEADERS, 1, &[]), PROTOCOL),
        case("6.10", "CONTINUATION on stream 0", BOTH, Ready, frame(CONTINUATION, END_HEADERS, 0, &[]), PROTOCOL),
        case("6.10", "CONTINUATION after the end of a block", SERVER, Ready,
            [headers(0, 1, &connect()), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            Expect::ToldThenConnection(vec![Told::Head(1, false)], ErrorCode::PROTOCOL_ERROR)),
    ]);
}

#[test]
fn section_6_1_to_6_4() {
    use State::{Open, Ready};
    let told = |payload: &[u8], end| Expect::Told(vec![Told::Data(1, payload.to_vec(), end)]);
    let opened = |end| Expect::Told(vec![Told::Head(1, end)]);
    let prioritized = [&[0x80, 0, 0, 1, 15][..], &connect()].concat();
    let padded = [&[2][..], &connect(), &[0, 0]].concat();
    #[rustfmt::skip]
    check_all(&[
        case("6.1", "DATA", BOTH, Open, data(0, 1, b"hello"), told(b"hello", false)),
        case("6.1", "DATA that ends the stream", BOTH, Open, data(END_STREAM, 1, b"hello"), told(b"hello", true)),
        case("6.1", "empty DATA that ends the stream", BOTH, Open, data(END_STREAM, 1, b""), told(b"", true)),
        case("6.1", "empty DATA", BOTH, Open, data(0, 1, b""), Expect::Nothing),
        case("6.1", "padded DATA", BOTH, Open, data(PADDED, 1, b"\x03hello..."), told(b"hello", false)),
        case("6.1", "padded DATA that ends the stream", BOTH, Open, data(PADDED | END_STREAM, 1, b"\x03hello..."), told(b"hello", true)),
        case("6.1", "nothing but padding", BOTH, Open, data(PADDED, 1, b"\x03..."), Expect::Nothing),
        case("6.1", "nothing but padding, and the end", BOTH, Open, data(PADDED | END_STREAM, 1, b"\x03..."), told(b"", true)),
        case("6.1", "padding longer than the payload", BOTH, Open, data(PADDED, 1, b"\x04..."), PROTOCOL),
        case("6.1", "DATA on stream 0", BOTH, Open, data(0, 0, b"x"), PROTOCOL),
        case("4.2", "padded DATA without a pad length", BOTH, Open, data(PADDED, 1, b""), STREAM_SIZE),
        case("6.2", "HEADERS", SERVER, Ready, headers(0, 1, &connect()), opened(false)),
        case("6.2", "HEADERS that end the stream", SERVER, Ready, headers(END_STREAM, 1, &connect()), opened(true)),
        case("6.2", "padded HEADERS", SERVER, Ready, headers(PADDED, 1, &padded), opened(false)),
        case("6.2", "HEADERS with priority", SERVER, Ready, headers(WITH_PRIORITY, 1, &prioritized), opened(false)),
        case("6.2", "HEADERS on stream 0", BOTH, Ready, headers(0, 0, &connect()), PROTOCOL),
        case("6.2", "padding longer than HEADERS", SERVER, Ready, headers(PADDED, 1, b"\x02a"), PROTOCOL),
        case("4.2", "padded HEADERS without a pad length", SERVER, Ready, headers(PADDED, 1, b""), SIZE),
        case("4.2", "HEADERS with half a priority", SERVER, Ready, headers(WITH_PRIORITY, 1, &[0; 4]), SIZE),
        case("6.3", "PRIORITY", BOTH, Open, frame(PRIORITY, 0, 1, &[0; 5]), Expect::Nothing),
        case("6.3", "PRIORITY on an idle stream", BOTH, Ready, frame(PRIORITY, 0, 7, &[0; 5]), Expect::Nothing),
        case("6.3", "PRIORITY on stream 0", BOTH, Ready, frame(PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
        case("6.3", "PRIORITY of 4 bytes", BOTH, Open, frame(PRIORITY, 0, 1, &[0; 4]), STREAM_SIZE),
        case("6.3", "PRIORITY of 6 bytes", BOTH, Open, frame(PRIORITY, 0, 1, &[0; 6]), STREAM_SIZE),
        case("6.3", "PRIORITY of 4 bytes on an idle stream", BOTH, Ready, frame(PRIORITY, 0, 7, &[0; 4]), SIZE),
        case("6.4", "RST_STREAM", BOTH, Open, wire::reset(1, 8), Expect::Told(vec![Told::Reset(1, ErrorCode::CANCEL)])),
        case("7", "RST_STREAM with an unknown code", BOTH, Open, wire::reset(1, 0xfabc), Expect::Told(vec![Told::Reset(1, ErrorCode::from(0xfabc))])),
        case("6.4", "RST_STREAM on stream 0", BOTH, Open, wire::reset(0, 8), PROTOCOL),
        case("6.4", "RST_STREAM on an idle stream", BOTH, Ready, wire::reset(1, 8), PROTOCOL),
        case("6.4", "RST_STREAM of 3 bytes", BOTH, Open, frame(RST_STREAM, 0, 1, &[0; 3]), SIZE),
        case("6.4", "RST_STREAM of 5 bytes", BOTH, Open, frame(RST_STREAM, 0, 1, &[0; 5]), SIZE),
    ]);
}

#[test]
fn section_6_5_to_6_8() {
    use State::{Asked, Open, Ready};
    let settled = || Expect::ToldAndSent(vec![Told::Window(None)], settings_ack());
    let gone = |code| Told::GoAway(ErrorCode::from(code));
    #[rustfmt::skip]
    check_all(&[
        case("6.5", "SETTINGS on a stream", BOTH, Open, frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        case("6.5", "SETTINGS of 5 bytes", BOTH, Ready, frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        case("6.5", "an acknowledgement that is not empty", BOTH, Ready, frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        case("6.5.2", "unknown settings", BOTH, Ready, settings(&[(0xfafa, 1)]), settled()),
        case("6.5.2", "SETTINGS_ENABLE_PUSH of 2", BOTH, Ready, settings(&[(2, 2)]), PROTOCOL),
        case("6.5.2", "a client that allows push", SERVER, Ready, settings(&[(2, 1)]), settled()),
        case("6.5.2", "a server that allows push", CLIENT, Ready, settings(&[(2, 1)]), PROTOCOL),
        case("6.5.2", "a server that says it does not push", CLIENT, Ready, settings(&[(2, 0)]), settled()),
        case("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1", BOTH, Ready, settings(&[(4, 1 << 31)]), FLOW),
        case("6.5.2", "SETTINGS_MAX_FRAME_SIZE below 2^14", BOTH, Ready, settings(&[(5, (1 << 14) - 1)]), PROTOCOL),
        case("6.5.2", "SETTINGS_MAX_FRAME_SIZE above 2^24-1", BOTH, Ready, settings(&[(5, 1 << 24)]), PROTOCOL),
        case("6.5.3", "SETTINGS twice are acknowledged twice", BOTH, Ready, [settings(&[]), settings(&[])].concat(),
            Expect::ToldAndSent(vec![Told::Window(None), Told::Window(None)], [settings_ack(), settings_ack()].concat())),
        case("6.6", "PUSH_PROMISE", BOTH, Open, frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), PROTOCOL),
        case("6.7", "PING", BOTH, Ready, ping(b"12345678"), Expect::Sent(frame(PING, ACK, 0, b"12345678"))),
        case("6.7", "an answer to PING is not answered", BOTH, Ready, frame(PING, ACK, 0, b"12345678"), Expect::Told(vec![Told::Pong(*b"12345678")])),
        case("6.7", "PING on a stream", BOTH, Open, frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        case("6.7", "PING of 7 bytes", BOTH, Ready, frame(PING, 0, 0, &[0; 7]), SIZE),
        case("6.7", "PING of 9 bytes", BOTH, Ready, frame(PING, 0, 0, &[0; 9]), SIZE),
        case("6.8", "GOAWAY", BOTH, Open, wire::goaway(1, 2), Expect::Told(vec![gone(2)])),
        case("6.8", "GOAWAY with what people may read", BOTH, Open, frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0more"), Expect::Told(vec![gone(0)])),
        case("6.8", "GOAWAY that leaves a stream out", CLIENT, Asked, wire::goaway(0, 0),
            Expect::Told(vec![gone(0), Told::Reset(1, ErrorCode::REFUSED_STREAM)])),
        case("6.8", "a stream opened by a peer that leaves", SERVER, Ready, [wire::goaway(0, 0), headers(0, 1, &connect())].concat(),
            Expect::Told(vec![gone(0), Told::Head(1, false)])),
        case("6.8", "GOAWAY on a stream", BOTH, Open, frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        case("4.2", "GOAWAY of 7 bytes", BOTH, Ready, frame(GOAWAY, 0, 0, &[0; 7]), SIZE),
    ]);
}

#[test]
fn section_6_9_flow_control() {
    use State::{Closed, HalfClosedRemote, Open, Ready};
    let told = |id| Expect::Told(vec![Told::Window(id)]);
    let most = (1 << 31) - 1;
    let stream_flow = || Expect::Stream(1, ErrorCode::FLOW_CONTROL_ERROR);
    let raised = [window_update(1, most - 65_535), settings(&[(4, 65_536)])].concat();
    let lowered = [window_update(1, most - 65_535), settings(&[(4, 0)])].concat();
    #[rustfmt::skip]
    check_all(&[
        case("6.9", "WINDOW_UPDATE of the connection", BOTH, Ready, window_update(0, 1), told(None)),
        case("6.9", "WINDOW_UPDATE of a stream", BOTH, Open, window_update(1, 1), told(Some(1))),
        case("6.9", "WINDOW_UPDATE with the reserved bit", BOTH, Open, window_update(1, (1 << 31) | 1), told(Some(1))),
        case("6.9", "WINDOW_UPDATE after the end of the stream", BOTH, HalfClosedRemote, window_update(1, 1), told(Some(1))),
        case("6.9", "WINDOW_UPDATE of a closed stream", BOTH, Closed, window_update(1, 1), Expect::Nothing),
        case("6.9", "an increment of 0 for the connection", BOTH, Open, window_update(0, 0), PROTOCOL),
        case("6.9", "an increment of 0 for a stream", BOTH, Open, window_update(1, 0), Expect::Stream(1, ErrorCode::PROTOCOL_ERROR)),
        case("6.9", "an increment of 0 for a closed stream", BOTH, Closed, window_update(1, 0), Expect::Nothing),
        case("6.9", "WINDOW_UPDATE of 3 bytes", BOTH, Open, frame(WINDOW_UPDATE, 0, 1, &[0; 3]), SIZE),
        case("6.9", "WINDOW_UPDATE of 5 bytes", BOTH, Open, frame(WINDOW_UPDATE, 0, 0, &[0; 5]), SIZE),
        case("6.9.1", "the largest window of the connection", BOTH, Ready, window_update(0, most - 65_535), told(None)),
        case("6.9.1", "more than the largest window of the connection", BOTH, Ready, window_update(0, most - 65_534), FLOW),
        case("6.9.1", "the largest window of a stream", BOTH, Open, window_update(1, most - 65_535), told(Some(1))),
        case("6.9.1", "more than the largest window of a stream", BOTH, Open, window_update(1, most - 65_534), stream_flow()),
        case("6.9.1", "more DATA than the stream's window", BOTH, Open, [header(32_768, DATA, 0, 1), vec![0; 32_768], header(7_233, DATA, 0, 1), vec![0; 7_233]].concat(),
            Expect::ToldAndSent(vec![Told::Data(1, vec![0; 32_768], false), Told::Reset(1, ErrorCode::FLOW_CONTROL_ERROR)], wire::reset(1, 3))),
        case("6.9.2", "a new initial window that makes a stream's too large", BOTH, Open, raised,
            Expect::ToldThenConnection(vec![Told::Window(Some(1))], ErrorCode::FLOW_CONTROL_ERROR)),
        case("6.9.2", "a new initial window that makes a stream's smaller", BOTH, Open, lowered,
            Expect::ToldAndSent(vec![Told::Window(Some(1)), Told::Window(None)], settings_ack())),
    ]);
}

#[test]
fn section_10_5_denial_of_service() {
    use State::{Open, Ready};
    let large = wire::block(&[
        (":method", "CONNECT"),
        (":authority", "a:1"),
        ("large", &"x".repeat(5000)),
    ]);
    let bulk = vec![0; 32_000];
    let endless = [
        frame(HEADERS, 0, 1, &bulk),
        frame(CONTINUATION, 0, 1, &bulk),
        header(2000, CONTINUATION, 0, 1),
    ];
    let empty_data = data(0, 1, b"").repeat(101);
    let padding = data(PADDED, 1, b"\x01.").repeat(101);
    let empty_continuations = [
        frame(HEADERS, 0, 1, &[]),
        frame(CONTINUATION, 0, 1, &[]).repeat(100),
    ];
    #[rustfmt::skip]
    check_all(&[
        case("10.5.1", "a header list above the limit", SERVER, Ready, headers(0, 1, &large), Expect::Refused(1, ErrorCode::ENHANCE_YOUR_CALM)),
        case("10.5.1", "a block that goes on and on", SERVER, Ready, endless.concat(), CALM),
        case("10.5", "100 DATA frames without content", BOTH, Open, data(0, 1, b"").repeat(100), Expect::Nothing),
        case("10.5", "101 DATA frames without content", BOTH, Open, empty_data, CALM),
        case("10.5", "101 DATA frames with nothing but padding", BOTH, Open, padding, CALM),
        case("10.5", "101 empty frames of a block", SERVER, Ready, empty_continuations.concat(), CALM),
    ]);
}
