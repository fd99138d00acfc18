//! One HTTP/2 connection that carries CONNECT streams, without I/O.
//!
//! Bytes from the peer go into [`Connection::receive`], which hands out events and never copies DATA.
//! Everything the connection has to say by itself collects in [`Connection::control`]; the owner
//! writes it to the peer ahead of any DATA frame that it makes with [`Connection::data`].
//!
//! Guarantees: no input makes it panic or hold more than its limits; flow control is never exceeded
//! in either direction; after an error it takes no more input and has said GOAWAY.

mod receive;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use crate::Head;
use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{
    self, ConnectionError, DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW, ErrorCode, FrameHeader,
    HEADER_LEN, MAX_STREAM_ID, Settings, flag, kind,
};
use crate::hpack;
use receive::Reading;
use stream::Stream;

/// Identifies a stream on its connection.
pub type StreamId = u32;

/// Streams that were reset here and on which the peer may not have stopped sending yet.
const RESETS_REMEMBERED: usize = 256;
/// Bytes of control frames that may wait to be written. Only a peer that makes us answer and does
/// not read the answers gets here.
const CONTROL_LIMIT: usize = 256 << 10;
/// The PING of a graceful shutdown.
const LEAVING: [u8; 8] = *b"leaving!";

/// What this end announces.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Receive window of one stream, bytes.
    pub stream_window: u32,
    /// Receive window of the connection, bytes; at least 65,535.
    pub connection_window: u32,
    /// Largest DATA frame accepted, bytes; 16,384 to 16,777,215.
    pub max_frame_size: u32,
    /// Streams the peer may have open at once.
    pub max_streams: u32,
    /// Largest header list accepted, bytes as RFC 9113 section 6.5.2 counts them.
    pub max_header_list: u32,
}

/// Something that the owner has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request (on a server) or a final response (on a client).
    Head {
        /// Its stream.
        stream: StreamId,
        /// What it said.
        head: Head,
        /// Whether nothing follows.
        end: bool,
    },
    /// Part of a stream's content, to be given back with [`Connection::release`] once it is used.
    Data {
        /// Its stream.
        stream: StreamId,
        /// The bytes; may be empty when `end` is set.
        payload: &'a [u8],
        /// Whether nothing follows.
        end: bool,
    },
    /// The stream is gone: the peer reset it, or broke its rules and was told so.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// More may be sent on this stream, or on all when it is none.
    Window(Option<StreamId>),
    /// The answer to a [`Connection::ping`].
    Pong([u8; 8]),
    /// The peer takes no new streams; those it has not seen were reported as reset.
    GoAway(ErrorCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    reading: Reading,
    /// The payload of a frame that came in pieces, other than DATA.
    partial: Vec<u8>,
    /// A header block that waits for its CONTINUATION frames.
    block: Option<receive::Block>,
    hpack: hpack::Decoder,
    settled: bool,
    empty_frames: u32,
    streams: HashMap<StreamId, Stream>,
    /// Streams reset here, oldest first.
    reset_here: VecDeque<StreamId>,
    /// The stream this end opens next.
    next: StreamId,
    /// The last stream the peer opened.
    last_peer: StreamId,
    peer: PeerSettings,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    control: Vec<u8>,
    /// The peer sent GOAWAY.
    peer_leaves: bool,
    /// This end leaves; new streams of the peer are refused once it knows.
    leaving: Leaving,
    /// Streams that the peer's GOAWAY left out and whose owners do not know it yet.
    unseen: Vec<StreamId>,
    /// The last stream named in a GOAWAY of ours; it may not grow.
    promised: StreamId,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The first GOAWAY and a PING are on their way.
    Announced,
    /// The last GOAWAY has been written.
    Final,
}

#[derive(Clone, Copy, Debug)]
struct PeerSettings {
    initial_window: u32,
    max_frame_size: u32,
    max_streams: u32,
}

impl Connection {
    /// The end that opens streams. Preface and SETTINGS wait in [`Connection::control`].
    #[must_use]
    pub fn client(config: Config) -> Self {
        let mut connection = Self::new(Role::Client, config);
        connection.control.extend_from_slice(frame::PREFACE);
        connection.introduce();
        connection
    }

    /// The end that accepts streams. SETTINGS wait in [`Connection::control`].
    #[must_use]
    pub fn server(config: Config) -> Self {
        let mut connection = Self::new(Role::Server, config);
        connection.introduce();
        connection
    }

    fn new(role: Role, config: Config) -> Self {
        Self {
            role,
            config,
            reading: match role {
                Role::Client => Reading::start(),
                Role::Server => Reading::preface(),
            },
            partial: Vec::new(),
            block: None,
            hpack: hpack::Decoder::new(hpack::DEFAULT_TABLE_SIZE),
            settled: false,
            empty_frames: 0,
            streams: HashMap::new(),
            reset_here: VecDeque::new(),
            next: 1,
            last_peer: 0,
            peer: PeerSettings {
                initial_window: DEFAULT_WINDOW,
                max_frame_size: DEFAULT_MAX_FRAME_SIZE,
                max_streams: u32::MAX,
            },
            send_window: SendWindow::new(DEFAULT_WINDOW),
            receive_window: ReceiveWindow::new(config.connection_window),
            control: Vec::new(),
            peer_leaves: false,
            leaving: Leaving::No,
            unseen: Vec::new(),
            promised: MAX_STREAM_ID,
            closed: false,
        }
    }

    fn introduce(&mut self) {
        let config = &self.config;
        let mut settings = Settings {
            initial_window_size: Some(config.stream_window),
            max_frame_size: Some(config.max_frame_size),
            max_header_list_size: Some(config.max_header_list),
            ..Settings::default()
        };
        match self.role {
            Role::Client => settings.enable_push = Some(false),
            Role::Server => settings.max_concurrent_streams = Some(config.max_streams),
        }
        frame::settings(&mut self.control, &settings);
        let more = config.connection_window.saturating_sub(DEFAULT_WINDOW);
        if more > 0 {
            frame::window_update(&mut self.control, 0, more);
        }
    }

    /// Control frames to be written to the peer, in order and before any later DATA. The owner
    /// takes them out.
    pub fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Streams the peer allows at once.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        usize::try_from(self.peer.max_streams).unwrap_or(usize::MAX)
    }

    /// Whether the peer has sent its SETTINGS.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.settled
    }

    /// Whether the peer takes new streams, apart from how many are open.
    #[must_use]
    pub fn accepts_streams(&self) -> bool {
        self.role == Role::Client
            && !self.closed
            && !self.peer_leaves
            && self.next <= MAX_STREAM_ID
    }

    /// Whether a new stream may be opened now.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.accepts_streams() && self.streams.len() < self.max_streams()
    }

    /// Opens a stream with a request of these fields, pseudo-header fields first. None when no
    /// stream may be opened now.
    pub fn request<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Option<StreamId> {
        if !self.can_open() {
            return None;
        }
        let id = self.next;
        self.next += 2;
        self.send_head(id, fields, false);
        let stream = Stream::opened_here(self.peer.initial_window, self.config.stream_window);
        self.streams.insert(id, stream);
        Some(id)
    }

    /// Answers a request, and ends the answer when `end` is set. False when the stream is gone.
    pub fn respond<'a>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) -> bool {
        if !self.streams.get(&id).is_some_and(Stream::may_answer) {
            return false;
        }
        self.send_head(id, fields, end);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.answered();
            if end {
                stream.send_ended();
            }
        }
        self.forget_if_over(id);
        true
    }

    fn send_head<'a>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) {
        let mut block = Vec::with_capacity(256);
        hpack::encode(&mut block, fields.into_iter());
        frame::headers(&mut self.control, id, &block, end, self.peer.max_frame_size);
    }

    /// Bytes of DATA that both windows allow on this stream now; zero when it is gone.
    #[must_use]
    pub fn capacity(&self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.may_send() => stream
                .send_window
                .available()
                .min(self.send_window.available()),
            _ => 0,
        }
    }

    /// The header of a DATA frame of `length` bytes, at most [`Connection::capacity`] and at most
    /// 16,384 (every peer takes that). Its payload must follow it. None when the stream is gone, or
    /// when the windows do not allow it.
    pub fn data(&mut self, id: StreamId, length: usize, end: bool) -> Option<[u8; HEADER_LEN]> {
        let limit = usize::try_from(DEFAULT_MAX_FRAME_SIZE).unwrap_or(0);
        let stream = self.streams.get_mut(&id).filter(|s| s.may_send())?;
        let room = stream.send_window.available();
        if length > room.min(self.send_window.available()).min(limit) {
            return None;
        }
        stream.send_window.spend(length);
        self.send_window.spend(length);
        if end {
            stream.send_ended();
        }
        self.forget_if_over(id);
        let header = FrameHeader {
            length: u32::try_from(length).ok()?,
            kind: kind::DATA,
            flags: if end { flag::END_STREAM } else { 0 },
            stream: id,
        };
        Some(header.encode())
    }

    /// Resets a stream; nothing happens when it is gone already.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.remove(&id).is_some() {
            frame::rst_stream(&mut self.control, id, code);
            self.remember_reset(id);
        }
    }

    /// Gives back content that was used, so that the peer may send more. All content of
    /// [`Event::Data`] must be given back, also that of streams that are gone.
    pub fn release(&mut self, id: StreamId, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(increment) = self.receive_window.release(bytes) {
            frame::window_update(&mut self.control, 0, increment);
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.receiving()
            && let Some(increment) = stream.receive_window.release(bytes)
        {
            frame::window_update(&mut self.control, id, increment);
        }
    }

    /// Asks the peer for a sign of life; [`Event::Pong`] brings the payload back.
    pub fn ping(&mut self, payload: [u8; 8]) {
        frame::ping(&mut self.control, payload, false);
    }

    /// Starts to leave: the peer is told, streams that it opened before it knew are still served,
    /// later ones are refused.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No && !self.closed {
            self.leaving = Leaving::Announced;
            frame::goaway(&mut self.control, MAX_STREAM_ID, ErrorCode::NO_ERROR, &[]);
            frame::ping(&mut self.control, LEAVING, false);
        }
    }

    /// Whether this end or the peer leaves and no stream is open.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let leaves = self.leaving == Leaving::Final || self.peer_leaves;
        self.closed || (leaves && self.streams.is_empty())
    }

    /// Ends the connection, in peace or with an error: GOAWAY waits in [`Connection::control`], input
    /// is ignored.
    pub fn close(&mut self, code: ErrorCode) {
        if !self.closed {
            self.closed = true;
            self.go_away(code);
        }
    }

    fn go_away(&mut self, code: ErrorCode) {
        self.promised = self.promised.min(self.last_peer);
        frame::goaway(&mut self.control, self.promised, code, &[]);
    }

    fn check_control(&self) -> Result<(), ConnectionError> {
        if self.control.len() > CONTROL_LIMIT {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "the peer does not read the answers that it causes",
            ));
        }
        Ok(())
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    fn remember_reset(&mut self, id: StreamId) {
        if self.reset_here.len() == RESETS_REMEMBERED {
            self.reset_here.pop_front();
        }
        self.reset_here.push_back(id);
    }

    /// Whether the peer, or this end, has ever opened this stream.
    fn was_opened(&self, id: StreamId) -> bool {
        match (self.role, id % 2) {
            (Role::Client, 1) => id < self.next,
            (Role::Server, 1) => id <= self.last_peer,
            _ => false,
        }
    }
}
