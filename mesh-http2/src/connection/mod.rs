//! One HTTP/2 connection that carries CONNECT streams, without I/O.
//!
//! Bytes from the peer go into [`Connection::receive`], which hands out events and never copies DATA.
//! Everything the connection has to say by itself collects in [`Connection::control`]; the owner
//! writes it to the peer ahead of any DATA frame that it makes later with [`Connection::data`].
//!
//! Guarantees: no input makes it panic or hold more than its limits; flow control is never exceeded
//! in either direction; after an error it takes no more input and has said GOAWAY.
//!
//! Streams are tunnels. Of RFC 9113 this leaves out what has no meaning for them: push, trailers
//! (section 8.5 forbids them), and the check of content against `content-length` (section 8.1.1, which
//! exempts tunnels). What has no timeout here is for the owner to time: the first SETTINGS, answers to
//! PING, streams without an answer.

mod config;
mod control;
mod data;
mod event;
mod frames;
mod headers;
mod limits;
mod read;
mod resets;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{
    self, DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW, ErrorCode, MAX_STREAM_ID, Settings,
};
use crate::hpack;
pub use config::Config;
pub use event::Event;
use limits::Limits;
use read::Reading;
use resets::Resets;
use stream::Stream;

/// Identifies a stream on its connection.
pub type StreamId = u32;

/// Streams that this end opens before it knows how many the peer allows: the least that section 6.5.2
/// recommends to allow.
const STREAMS_BEFORE_SETTINGS: u32 = 100;
/// The PING of a graceful shutdown.
const LEAVING: [u8; 8] = *b"leaving!";

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
    block: Option<headers::Block>,
    hpack: hpack::Decoder,
    limits: Limits,
    streams: HashMap<StreamId, Stream>,
    resets: Resets,
    /// The stream this end opens next.
    next: StreamId,
    /// The last stream the peer opened.
    last_peer: StreamId,
    peer: PeerSettings,
    /// The peer has acknowledged our SETTINGS.
    acknowledged: bool,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    control: Vec<u8>,
    /// The peer sent GOAWAY.
    peer_leaves: bool,
    leaving: Leaving,
    /// Streams that the peer's GOAWAY left out and whose owners do not know it yet, the lowest last.
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
    /// The last GOAWAY has been written: what the peer opens now is refused.
    Final,
}

#[derive(Clone, Copy, Debug)]
struct PeerSettings {
    /// The first SETTINGS have come.
    known: bool,
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
        let config = config.in_range();
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
            limits: Limits::default(),
            streams: HashMap::new(),
            resets: Resets::default(),
            next: 1,
            last_peer: 0,
            peer: PeerSettings {
                known: false,
                initial_window: DEFAULT_WINDOW,
                max_frame_size: DEFAULT_MAX_FRAME_SIZE,
                max_streams: STREAMS_BEFORE_SETTINGS,
            },
            acknowledged: false,
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
        let more = config.connection_window - DEFAULT_WINDOW;
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

    /// Streams the peer allows at once; 100 until it has said.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        usize::try_from(self.peer.max_streams).unwrap_or(usize::MAX)
    }

    /// Whether the peer has sent its SETTINGS.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.peer.known
    }

    /// Whether the peer takes new streams, apart from how many are open.
    #[must_use]
    pub fn accepts_streams(&self) -> bool {
        self.role == Role::Client
            && !self.closed
            && !self.peer_leaves
            && self.leaving == Leaving::No
            && self.next <= MAX_STREAM_ID
    }

    /// Whether a new stream may be opened now.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.accepts_streams() && self.streams.len() < self.max_streams()
    }

    /// Whether this end or the peer leaves, no stream is open, and every event was handed out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let leaves = self.leaving == Leaving::Final || self.peer_leaves;
        self.closed || (leaves && self.streams.is_empty() && self.unseen.is_empty())
    }

    /// The window of a stream that begins now.
    fn new_receive_window(&self) -> ReceiveWindow {
        match self.acknowledged {
            true => ReceiveWindow::new(self.config.stream_window),
            false => ReceiveWindow::unacknowledged(self.config.stream_window),
        }
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    /// RST_STREAM; what the peer still sends on the stream is dropped.
    fn write_reset(&mut self, id: StreamId, code: ErrorCode) {
        frame::rst_stream(&mut self.control, id, code);
        self.resets.insert(id);
    }

    /// Whether the peer, or this end, has ever opened this stream. Opening one closes those below that
    /// were skipped (section 5.1.1).
    fn was_opened(&self, id: StreamId) -> bool {
        match (self.role, id % 2) {
            (Role::Client, 1) => id < self.next,
            (Role::Server, 1) => id <= self.last_peer,
            _ => false,
        }
    }
}
