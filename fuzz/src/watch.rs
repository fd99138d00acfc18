//! What must hold whatever the peer sends and the owner does.

use mesh_http2::{Config, Connection, ErrorCode, Event, StreamId};
use std::collections::BTreeMap;

/// The most that control frames may take besides what the owner itself has said, bytes; and what one
/// step may add to it before it is noticed.
const CONTROL: usize = (128 << 10) + 128;

/// What the owner knows of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The head of the peer has come.
    head: bool,
    /// The peer has ended it.
    ended: bool,
    /// We have.
    sent_all: bool,
}

/// A connection, and an owner that checks it.
pub struct Watched {
    connection: Connection,
    is_client: bool,
    config: Config,
    live: BTreeMap<StreamId, Known>,
    /// Content that was handed out and not given back, bytes.
    held: usize,
    /// Bytes that the owner has put among the control frames since it emptied them.
    own: usize,
    /// Bytes of DATA frames received, and by how much the connection's window was enlarged for them.
    received: u64,
    announced: u64,
    last_goaway: u32,
    failed: bool,
}

impl Watched {
    /// A connection that is new.
    pub fn new(is_client: bool, config: Config) -> Self {
        let connection = match is_client {
            true => Connection::client(config),
            false => Connection::server(config),
        };
        let mut watched = Self {
            connection,
            is_client,
            config,
            live: BTreeMap::new(),
            held: 0,
            own: 0,
            received: 0,
            announced: 0,
            last_goaway: u32::MAX,
            failed: false,
        };
        watched.drain();
        watched
    }

    /// Bytes of the peer, in pieces of this size.
    pub fn feed(&mut self, bytes: &[u8], piece: usize) {
        self.received += bytes.len() as u64;
        for piece in bytes.chunks(piece.max(1)) {
            self.receive(piece);
        }
    }

    fn receive(&mut self, mut input: &[u8]) {
        // One event for each byte at the most, and those that were there before.
        let mut events = input.len() + self.live.len() + 1;
        loop {
            let event = match self.connection.receive(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => {
                    assert!(!self.failed, "a second error");
                    self.failed = true;
                    break;
                }
            };
            assert!(!self.failed, "an event after an error");
            events = events.checked_sub(1).expect("events without end");
            self.note(&event);
            self.check();
        }
        assert!(input.is_empty());
        assert!(!self.failed || self.connection.is_over());
        self.check();
    }

    fn note(&mut self, event: &Event<'_>) {
        match *event {
            Event::Head { stream, end, .. } if self.is_client => {
                let known = self.live.get_mut(&stream).expect("a stream that we opened");
                assert!(!known.head && !known.ended);
                known.head = true;
                known.ended = end;
                self.forget_if_over(stream);
            }
            Event::Head { stream, end, .. } => {
                let known = Known {
                    head: true,
                    ended: end,
                    sent_all: false,
                };
                assert!(stream % 2 == 1);
                assert!(self.live.keys().all(|&id| id < stream));
                self.live.insert(stream, known);
            }
            Event::Data {
                stream,
                payload,
                end,
            } => {
                let known = self.live.get_mut(&stream).expect("a stream that is open");
                assert!(known.head && !known.ended);
                known.ended = end;
                self.held += payload.len();
                assert!(self.held <= self.config.connection_window.max(65_535) as usize);
                self.forget_if_over(stream);
            }
            Event::Reset { stream, .. } => {
                self.live.remove(&stream).expect("a stream that is open");
            }
            Event::Window(Some(stream)) => assert!(self.live.contains_key(&stream)),
            Event::Window(None) | Event::Pong(_) | Event::GoAway(_) => {}
        }
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.live.get(&id).is_some_and(|k| k.ended && k.sent_all) {
            self.live.remove(&id);
        }
    }

    /// What must hold between any two steps.
    pub fn check(&mut self) {
        assert!(self.connection.control().len() <= CONTROL + self.own);
        assert!(self.connection.streams() <= self.live.len());
        if !self.is_client {
            assert!(self.connection.streams() <= self.config.max_streams as usize);
        }
    }

    /// Something that the owner says.
    fn act(&mut self, act: impl FnOnce(&mut Connection)) {
        let before = self.connection.control().len();
        act(&mut self.connection);
        self.own += self.connection.control().len() - before;
    }

    fn pick(&self, nth: u8) -> StreamId {
        let ids = self.live.keys();
        let nth = usize::from(nth) % self.live.len().max(1);
        ids.copied().nth(nth).unwrap_or(u32::from(nth as u8))
    }

    /// A request, if one may be made.
    pub fn request(&mut self, large: u16) {
        let may = self.connection.can_open();
        let value = vec![b'v'; usize::from(large)];
        let mut opened = None;
        self.act(|c| {
            let fields = [
                (&b":method"[..], &b"CONNECT"[..]),
                (b":authority", b"a:1"),
                (b"large", &value),
            ];
            opened = c.request(fields);
        });
        assert_eq!(opened.is_some(), may);
        if let Some(id) = opened {
            assert!(self.live.insert(id, Known::default()).is_none());
        }
    }

    /// An answer to a request that may be there.
    pub fn respond(&mut self, nth: u8, end: bool) {
        let id = self.pick(nth);
        let mut answered = false;
        self.act(|c| answered = c.respond(id, [(&b":status"[..], &b"200"[..])], end));
        if answered && end {
            let known = self.live.get_mut(&id).expect("a stream that is open");
            known.sent_all = true;
            self.forget_if_over(id);
        }
    }

    /// A DATA frame, if it may be sent.
    pub fn data(&mut self, nth: u8, length: u16, end: bool) {
        let id = self.pick(nth);
        let (length, capacity) = (usize::from(length), self.connection.capacity(id));
        let header = self.connection.data(id, length, end);
        if header.is_some() {
            assert!(length <= capacity.min(16_384));
            let known = self.live.get_mut(&id).expect("a stream that is open");
            assert!(!known.sent_all);
            known.sent_all = end;
            self.forget_if_over(id);
        } else if length > 0 && length <= capacity.min(16_384) {
            panic!("{length} of {capacity} bytes are refused");
        }
    }

    /// A reset.
    pub fn reset(&mut self, nth: u8) {
        let id = self.pick(nth);
        self.act(|c| c.reset(id, ErrorCode::CANCEL));
        self.live.remove(&id);
    }

    /// Content given back: of any stream, and not more than is held unless `bytes` is huge.
    pub fn release(&mut self, nth: u8, bytes: u32) {
        let id = self.pick(nth);
        let bytes = match bytes {
            u32::MAX => usize::MAX,
            bytes => (bytes as usize).min(self.held),
        };
        self.held -= bytes.min(self.held);
        self.act(|c| c.release(id, bytes));
    }

    /// Everything else that an owner does.
    pub fn otherwise(&mut self, what: u8) {
        match what % 16 {
            0 => {
                self.act(|c| c.close(ErrorCode::NO_ERROR));
                self.failed = true;
            }
            1 => self.act(Connection::leave),
            2 | 3 => self.act(Connection::forgive),
            4 | 5 => self.act(|c| c.ping(*b"are you?")),
            _ => self.drain(),
        }
    }

    /// The owner takes the control frames, which are sound.
    pub fn drain(&mut self) {
        let bytes = std::mem::take(self.connection.control());
        self.own = 0;
        let mut rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut rest = rest.take().unwrap_or(&bytes);
        let mut in_block = false;
        while let Some((&[l0, l1, l2, kind, flags, s0, s1, s2, s3], after)) =
            rest.split_first_chunk()
        {
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            let (payload, after) = after.split_at(length);
            rest = after;
            assert_eq!(in_block, kind == 9, "a block is interrupted");
            if kind == 1 || kind == 9 {
                in_block = flags & 4 == 0;
            }
            assert_eq!(
                stream == 0,
                matches!(kind, 4 | 6 | 7) || (kind == 8 && stream == 0)
            );
            match kind {
                1 | 9 => assert!(length <= 1 << 24),
                3 => assert_eq!(length, 4),
                4 => assert!(flags == 0 || length == 0),
                6 => assert_eq!(length, 8),
                7 => {
                    let last = number(payload);
                    assert!(last <= self.last_goaway, "GOAWAY takes streams back");
                    self.last_goaway = last;
                }
                8 => {
                    assert!(number(payload) > 0, "WINDOW_UPDATE of 0");
                    if stream == 0 {
                        self.announced += u64::from(number(payload));
                    }
                }
                _ => panic!("a frame of type {kind}"),
            }
        }
        assert!(rest.is_empty() && !in_block);
        // What nobody wants is given back before it has come: one frame at a time.
        let frame = self.config.max_frame_size.clamp(1 << 14, (1 << 24) - 1);
        let first = self.config.connection_window.saturating_sub(65_535);
        assert!(self.announced <= self.received + u64::from(first) + u64::from(frame));
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |n, &b| n << 8 | u32::from(b))
}
