//! Both roles against each other, through buffers.

use super::*;
use crate::Head;
use crate::frame::{FrameHeader, HEADER_LEN, kind};

const CONFIG: Config = Config {
    stream_window: 100_000,
    connection_window: 150_000,
    max_frame_size: 1 << 20,
    max_streams: 2,
    max_header_list: 4096,
};
const CONNECT: [(&[u8], &[u8]); 3] = [
    (b":method", b"CONNECT"),
    (b":authority", b"10.0.0.1:80"),
    (b"baggage", b"k8s.namespace.name=shop"),
];
const OK: [(&[u8], &[u8]); 1] = [(b":status", b"200")];

/// Both ends, and what each was told.
struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            client: Connection::client(CONFIG),
            server: Connection::server(CONFIG),
        };
        pair.exchange();
        pair
    }

    /// Carries control frames both ways until there are none; what each end was told.
    fn exchange(&mut self) -> (Vec<Told>, Vec<Told>) {
        let (mut client, mut server) = (Vec::new(), Vec::new());
        loop {
            let (up, down) = (
                std::mem::take(self.client.control()),
                std::mem::take(self.server.control()),
            );
            if up.is_empty() && down.is_empty() {
                return (client, server);
            }
            server.extend(told(&mut self.server, &up));
            client.extend(told(&mut self.client, &down));
        }
    }

    /// Opens a stream that the server accepts.
    fn open(&mut self) -> StreamId {
        let id = self.client.request(CONNECT).unwrap();
        self.exchange();
        assert!(self.server.respond(id, OK, false));
        self.exchange();
        id
    }
}

/// An event without its borrow.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Head(StreamId, Head, bool),
    Data(StreamId, usize, bool),
    Reset(StreamId, ErrorCode),
    Window(Option<StreamId>),
    Pong([u8; 8]),
    GoAway(ErrorCode),
    Failed(ErrorCode),
}

/// Reads `bytes` in pieces of every size up to 7, so that every boundary is met.
fn told(connection: &mut Connection, bytes: &[u8]) -> Vec<Told> {
    let mut all = Vec::new();
    let mut sizes = (1..=7).cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (mut piece, later) = rest.split_at(size);
        rest = later;
        loop {
            match connection.receive(&mut piece) {
                Ok(Some(event)) => all.push(match event {
                    Event::Head { stream, head, end } => Told::Head(stream, head, end),
                    Event::Data {
                        stream,
                        payload,
                        end,
                    } => Told::Data(stream, payload.len(), end),
                    Event::Reset { stream, code } => Told::Reset(stream, code),
                    Event::Window(stream) => Told::Window(stream),
                    Event::Pong(payload) => Told::Pong(payload),
                    Event::GoAway(code) => Told::GoAway(code),
                }),
                Ok(None) => break,
                Err(error) => {
                    all.push(Told::Failed(error.code));
                    return all;
                }
            }
        }
    }
    all
}

fn content(told: &[Told]) -> usize {
    let lengths = told.iter().map(|t| match t {
        Told::Data(_, length, _) => *length,
        _ => 0,
    });
    lengths.sum()
}

fn data(connection: &mut Connection, id: StreamId, length: usize, end: bool) -> Vec<u8> {
    let mut bytes = connection.data(id, length, end).unwrap().to_vec();
    bytes.resize(HEADER_LEN + length, b'x');
    bytes
}

#[test]
fn a_stream_lives_and_ends() {
    let mut pair = Pair::new();
    let id = pair.client.request(CONNECT).unwrap();
    let (_, server) = pair.exchange();
    let Some(Told::Head(1, head, false)) = server.first() else {
        panic!("{server:?}");
    };
    assert_eq!(head.method(), b"CONNECT");
    assert_eq!(head.get("baggage"), Some(&b"k8s.namespace.name=shop"[..]));
    assert_eq!(pair.client.capacity(id), 100_000);
    assert_eq!(pair.server.capacity(id), 0, "before the answer");
    assert!(pair.server.respond(id, OK, false));
    assert!(!pair.server.respond(id, OK, false), "twice");
    let (client, _) = pair.exchange();
    assert!(
        matches!(client.as_slice(), [Told::Head(1, head, false)] if head.status() == Some(200))
    );

    let up = data(&mut pair.client, id, 100, true);
    let server = told(&mut pair.server, &up);
    assert_eq!(content(&server), 100);
    assert!(matches!(server.last(), Some(Told::Data(1, _, true))));
    assert_eq!(pair.client.capacity(id), 0, "after the end");
    let down = data(&mut pair.server, id, 0, true);
    assert_eq!(told(&mut pair.client, &down), [Told::Data(1, 0, true)]);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
}

#[test]
fn windows_bound_what_is_sent_and_open_again() {
    let mut pair = Pair::new();
    let id = pair.open();
    let mut sent = 0;
    // The stream's window is the smaller one.
    while pair.client.capacity(id) > 0 {
        let length = pair
            .client
            .capacity(id)
            .min(DEFAULT_MAX_FRAME_SIZE as usize);
        let bytes = data(&mut pair.client, id, length, false);
        sent += content(&told(&mut pair.server, &bytes));
    }
    assert_eq!(sent, 100_000);
    assert_eq!(pair.client.data(id, 1, false), None);
    pair.server.release(id, 49_999);
    assert_eq!(pair.exchange().0, []);
    pair.server.release(id, 50_001);
    let (client, _) = pair.exchange();
    assert!(client.contains(&Told::Window(Some(id))) && client.contains(&Told::Window(None)));
    assert_eq!(pair.client.capacity(id), 100_000);
}

#[test]
fn more_than_the_window_is_an_error() {
    let mut pair = Pair::new();
    let id = pair.open();
    let header = FrameHeader {
        length: 100_001,
        kind: kind::DATA,
        flags: 0,
        stream: id,
    };
    let server = told(&mut pair.server, &header.encode());
    assert_eq!(server, [Told::Reset(id, ErrorCode::FLOW_CONTROL_ERROR)]);
    let header = FrameHeader {
        length: 150_001,
        ..header
    };
    let mut pair = Pair::new();
    pair.open();
    let server = told(&mut pair.server, &header.encode());
    assert_eq!(server, [Told::Failed(ErrorCode::FLOW_CONTROL_ERROR)]);
    let (client, _) = pair.exchange();
    assert_eq!(client, [Told::GoAway(ErrorCode::FLOW_CONTROL_ERROR)]);
    assert!(pair.server.is_over());
}

#[test]
fn the_peers_limit_of_streams_is_kept_and_enforced() {
    let mut pair = Pair::new();
    let first = pair.open();
    pair.open();
    assert!(!pair.client.can_open());
    assert_eq!(pair.client.request(CONNECT), None);
    pair.client.peer.max_streams = 3;
    let third = pair.client.request(CONNECT).unwrap();
    let (client, server) = pair.exchange();
    assert_eq!(server, []);
    assert_eq!(client, [Told::Reset(third, ErrorCode::REFUSED_STREAM)]);
    pair.client.reset(first, ErrorCode::CANCEL);
    let (_, server) = pair.exchange();
    assert_eq!(server, [Told::Reset(first, ErrorCode::CANCEL)]);
    assert!(pair.client.request(CONNECT).is_some());
}

#[test]
fn data_on_a_stream_that_was_reset_here_is_given_back() {
    let mut pair = Pair::new();
    let id = pair.open();
    let late = data(&mut pair.client, id, 16_000, false);
    pair.server.reset(id, ErrorCode::CANCEL);
    assert_eq!(told(&mut pair.server, &late), []);
    // A window update would follow only after half of the connection's window.
    assert_eq!(pair.exchange().0, [Told::Reset(id, ErrorCode::CANCEL)]);
    for _ in 0..20 {
        let id = pair.open();
        let late = data(&mut pair.client, id, 16_000, false);
        pair.server.reset(id, ErrorCode::CANCEL);
        told(&mut pair.server, &late);
        pair.exchange();
    }
    assert!(pair.client.send_window.available() >= 150_000 / 2);
}

#[test]
fn leaving_serves_what_is_open_and_refuses_what_comes_later() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.server.leave();
    let (client, server) = pair.exchange();
    let goaway = Told::GoAway(ErrorCode::NO_ERROR);
    assert_eq!(
        (&client[..], &server[..]),
        (&[goaway, Told::GoAway(ErrorCode::NO_ERROR)][..], &[][..])
    );
    assert!(!pair.client.can_open());
    assert!(!pair.client.is_over() && !pair.server.is_over());
    let end = data(&mut pair.client, id, 1, true);
    told(&mut pair.server, &end);
    let end = data(&mut pair.server, id, 1, true);
    told(&mut pair.client, &end);
    assert!(pair.client.is_over() && pair.server.is_over());
}

#[test]
fn streams_that_the_goaway_leaves_out_are_reset() {
    let mut pair = Pair::new();
    pair.client.request(CONNECT).unwrap();
    pair.client.control().clear();
    pair.server.close(ErrorCode::NO_ERROR);
    let (client, _) = pair.exchange();
    assert_eq!(
        client,
        [
            Told::GoAway(ErrorCode::NO_ERROR),
            Told::Reset(1, ErrorCode::REFUSED_STREAM)
        ]
    );
}

#[test]
fn a_peer_that_reads_no_answers_is_dropped() {
    let mut server = Connection::server(CONFIG);
    let mut bytes = std::mem::take(Connection::client(CONFIG).control());
    for _ in 0..limits::CONTROL / 17 {
        frame::ping(&mut bytes, [0; 8], false);
    }
    let failed = Told::Failed(ErrorCode::ENHANCE_YOUR_CALM);
    assert_eq!(told(&mut server, &bytes).last(), Some(&failed));
}

#[test]
fn the_last_identifier_is_used_and_none_after_it() {
    let mut pair = Pair::new();
    pair.client.next = MAX_STREAM_ID;
    assert_eq!(pair.open(), MAX_STREAM_ID);
    assert!(!pair.client.can_open());
    assert_eq!(pair.client.request(CONNECT), None);
    let up = data(&mut pair.client, MAX_STREAM_ID, 10, false);
    assert_eq!(content(&told(&mut pair.server, &up)), 10);
}
