//! The connection under test, and the states to which its peer brings it.

use crate::wire::{self, END_STREAM, Frame};
use mesh_http2::{Config, Connection, ConnectionError, ErrorCode, Event};

pub(crate) const CONFIG: Config = Config {
    stream_window: 40_000,
    connection_window: 65_535,
    max_frame_size: 32_768,
    max_streams: 2,
    max_header_list: 4096,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// How far the peer and the connection have come before a case begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing has come.
    Fresh,
    /// SETTINGS were exchanged and acknowledged.
    Ready,
    /// Stream 1 was asked for, and not answered.
    Asked,
    /// Stream 1 is open in both directions.
    Open,
    /// Stream 1, of which the peer has sent all.
    HalfClosedRemote,
    /// Stream 1, of which we have sent all.
    HalfClosedLocal,
    /// Stream 1, ended by both.
    Closed,
    /// Stream 1 was open, and reset by us.
    ResetHere,
    /// Stream 1 was open, and reset by the peer.
    ResetThere,
}

/// An event without its borrow; DATA that came in pieces is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Head(u32, bool),
    Data(u32, Vec<u8>, bool),
    Reset(u32, ErrorCode),
    Window(Option<u32>),
    Pong([u8; 8]),
    GoAway(ErrorCode),
}

/// What came of some input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) told: Vec<Told>,
    pub(crate) sent: Vec<Frame>,
    pub(crate) error: Option<ErrorCode>,
}

/// The connection under test.
pub(crate) struct UnderTest {
    pub(crate) connection: Connection,
    role: Role,
}

impl UnderTest {
    pub(crate) fn new(role: Role, state: State) -> Self {
        Self::with(CONFIG, role, state)
    }

    pub(crate) fn with(config: Config, role: Role, state: State) -> Self {
        let connection = match role {
            Role::Client => Connection::client(config),
            Role::Server => Connection::server(config),
        };
        let mut test = Self { connection, role };
        test.connection.control().clear();
        if state != State::Fresh {
            test.advance(state);
            test.connection.control().clear();
        }
        test
    }

    fn advance(&mut self, state: State) {
        if self.role == Role::Server {
            self.feed(wire::PREFACE);
        }
        self.feed(&wire::settings(&[]));
        self.feed(&wire::settings_ack());
        if state == State::Ready {
            return;
        }
        self.open(1);
        if state == State::Asked {
            return;
        }
        self.answer(1);
        match state {
            State::HalfClosedRemote => self.feed(&wire::data(END_STREAM, 1, b"")),
            State::HalfClosedLocal => self.end(1),
            State::Closed => {
                self.feed(&wire::data(END_STREAM, 1, b""));
                self.end(1);
            }
            State::ResetHere => self.connection.reset(1, ErrorCode::CANCEL),
            State::ResetThere => self.feed(&wire::reset(1, 8)),
            _ => {}
        }
    }

    /// A CONNECT request on this stream.
    pub(crate) fn open(&mut self, id: u32) {
        match self.role {
            Role::Server => self.feed(&wire::headers(0, id, &wire::connect())),
            Role::Client => {
                let fields = [(&b":method"[..], &b"CONNECT"[..]), (b":authority", b"a:1")];
                assert_eq!(self.connection.request(fields), Some(id));
            }
        }
    }

    /// Its answer.
    pub(crate) fn answer(&mut self, id: u32) {
        match self.role {
            Role::Server => {
                let fields = [(&b":status"[..], &b"200"[..])];
                assert!(self.connection.respond(id, fields, false));
            }
            Role::Client => {
                let block = wire::block(&[(":status", "200")]);
                self.feed(&wire::headers(0, id, &block));
            }
        }
    }

    fn end(&mut self, id: u32) {
        assert!(self.connection.data(id, 0, true).is_some());
    }

    /// Input that must be sound.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        assert_eq!(self.outcome(input, usize::MAX).error, None);
    }

    /// What waits to be written.
    pub(crate) fn waiting(&mut self) -> Outcome {
        self.outcome(&[], usize::MAX)
    }

    /// What comes of `input`, given in pieces of `piece` bytes.
    pub(crate) fn outcome(&mut self, input: &[u8], piece: usize) -> Outcome {
        let mut told = Vec::new();
        let result = self.receive(input, piece, &mut told);
        let sent = wire::frames(&std::mem::take(self.connection.control()));
        Outcome {
            told,
            sent,
            error: result.err().map(|error| error.code),
        }
    }

    fn receive(
        &mut self,
        input: &[u8],
        piece: usize,
        told: &mut Vec<Told>,
    ) -> Result<(), ConnectionError> {
        for mut piece in input.chunks(piece.min(input.len().max(1))) {
            while let Some(event) = self.connection.receive(&mut piece)? {
                note(told, &event);
            }
            assert!(piece.is_empty());
        }
        Ok(())
    }
}

fn note(told: &mut Vec<Told>, event: &Event<'_>) {
    let event = match *event {
        Event::Head { stream, end, .. } => Told::Head(stream, end),
        Event::Data {
            stream,
            payload,
            end,
        } => {
            if let Some(Told::Data(last, content, false)) = told.last_mut()
                && *last == stream
            {
                content.extend(payload);
                if end {
                    let content = std::mem::take(content);
                    told.pop();
                    told.push(Told::Data(stream, content, true));
                }
                return;
            }
            Told::Data(stream, payload.to_vec(), end)
        }
        Event::Reset { stream, code } => Told::Reset(stream, code),
        Event::Window(stream) => Told::Window(stream),
        Event::Pong(payload) => Told::Pong(payload),
        Event::GoAway(code) => Told::GoAway(code),
    };
    told.push(event);
}
