//! One tunnel, at either end: its socket, its TLS session, its HTTP/2 connection and its streams.
//!
//! Everything runs on one thread. The driver, one task for each tunnel, reads what the peer sends and
//! writes it to the applications' sockets itself; it also writes what streams have put into the
//! outgoing buffer, once for all that became ready together. A stream's own task reads its
//! application, and waits where a socket takes no more. Nothing is allocated while bytes flow.

use mesh_http2::{Config, Connection, ConnectionError, ErrorCode, Event, Head, StreamId};
use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use thiserror::Error;

use super::outgoing::Outgoing;
use super::slot::{Run, Sink, Slot};
use super::{CONNECTION_WINDOW, FRAME, HEADER_LIST, STREAM_WINDOW, STREAMS_ACCEPTED};
use crate::socket::Socket;
use crate::tls::{Authenticated, CONTENT, Opened, Session, SessionError};

/// Read from a tunnel at once, bytes.
const READ: usize = 256 << 10;
/// Reads before other tasks get their turn.
const READS: usize = 4;

const CONFIG: Config = Config {
    stream_window: STREAM_WINDOW,
    connection_window: CONNECTION_WINDOW,
    max_frame_size: FRAME,
    max_streams: STREAMS_ACCEPTED,
    max_header_list: HEADER_LIST,
};

/// Where a tunnel's bytes are read to and opened; one for each thread.
struct Scratch {
    bytes: Vec<u8>,
    /// Where the application data of the records lies.
    contents: Vec<Range<usize>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { bytes: Vec::new(), contents: Vec::new() })
    };
}

/// Why a tunnel ended.
#[derive(Clone, Debug, Error)]
pub enum TunnelError {
    /// The peer closed the connection.
    #[error("the peer closed the tunnel")]
    Closed,
    /// The peer said GOAWAY with an error.
    #[error("the peer ended the tunnel: {0}")]
    GoAway(ErrorCode),
    /// The connection broke.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// A record was wrong.
    #[error("{0}")]
    Tls(#[from] SessionError),
    /// A frame was wrong.
    #[error("HTTP/2: {0}")]
    Http2(#[from] ConnectionError),
    /// The peer is not there any more.
    #[error("the peer was silent for 30 s")]
    Silent,
    /// The peer opened a connection and did not speak HTTP/2.
    #[error("no HTTP/2 preface within 10 s")]
    NoPreface,
    /// We ended it.
    #[error("the tunnel was closed here")]
    Here,
}

impl From<io::Error> for TunnelError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Which end of the tunnel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// The shared state of one tunnel. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Socket,
    state: RefCell<State>,
}

/// What the driver and the streams of a tunnel work on.
#[derive(Debug)]
pub(super) struct State {
    pub(super) http2: Connection,
    pub(super) session: Session,
    pub(super) out: Outgoing,
    pub(super) streams: HashMap<StreamId, Slot>,
    /// Requests that nobody has taken yet.
    requests: VecDeque<(StreamId, Head)>,
    /// The beginning of a record.
    unread: Vec<u8>,
    driver: Option<Waker>,
    flush_asked: bool,
    /// Streams that wait for room in `out`.
    starved: Vec<StreamId>,
    /// Ends once no stream is left.
    retiring: bool,
    goaway: Option<ErrorCode>,
    /// The peer has sent something since this was last asked.
    heard: bool,
    ended: Option<TunnelError>,
}

impl Link {
    /// Speaks HTTP/2 over an authenticated connection.
    ///
    /// # Errors
    /// When what the peer has sent already is wrong.
    pub(super) fn new(peer: Authenticated, end: End) -> Result<Self, TunnelError> {
        let http2 = match end {
            End::Client => Connection::client(CONFIG),
            End::Server => Connection::server(CONFIG),
        };
        let mut state = State {
            http2,
            session: peer.session,
            out: Outgoing::default(),
            streams: HashMap::new(),
            requests: VecDeque::new(),
            unread: Vec::new(),
            driver: None,
            flush_asked: true,
            starved: Vec::new(),
            retiring: false,
            goaway: None,
            heard: false,
            ended: None,
        };
        let early = 0..peer.early.len();
        state.dispatch(&peer.early, std::slice::from_ref(&early))?;
        let mut unread = peer.unread;
        state.absorb(&mut unread, &mut Vec::new())?;
        Ok(Self(Rc::new(Shared {
            socket: peer.socket,
            state: RefCell::new(state),
        })))
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.state.borrow_mut()
    }

    /// Has the driver write what waits, after the tasks that are ready now have added theirs.
    pub(super) fn ask_flush(&self) {
        self.state().ask_flush();
    }

    /// Writes what waits, as far as the kernel takes it. A failure ends the tunnel.
    pub(super) fn flush(&self, state: &mut State) {
        match state.flush(&self.0.socket) {
            Ok(false) => {}
            Ok(true) => state.ask_flush(),
            Err(error) => state.end(error),
        }
    }

    /// Drives the tunnel until it ends. Everything else happens only while this is polled.
    pub(super) fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        if let Some(error) = &self.state().ended {
            return Poll::Ready(Err(error.clone()));
        }
        let result = self.poll_io(cx);
        if let Poll::Ready(result) = &result {
            self.end(result.as_ref().err().cloned());
        }
        result
    }

    fn poll_io(&self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        self.state().remember_driver(cx);
        let mut reads = 0;
        while reads < READS {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(())) => reads += 1,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if reads == READS {
            cx.waker().wake_by_ref();
        }
        let mut state = self.state();
        state.flush_asked = false;
        while state.flush(&self.0.socket)? {
            let unsent = [IoSlice::new(state.out.unsent())];
            match self.0.socket.poll_write_vectored(cx, &unsent) {
                Poll::Ready(written) => state.out.wrote(written?),
                Poll::Pending => return Poll::Pending,
            }
        }
        state.feed_starved();
        if state.is_over() {
            return Poll::Ready(match state.goaway {
                Some(code) if code != ErrorCode::NO_ERROR => Err(TunnelError::GoAway(code)),
                _ => Ok(()),
            });
        }
        Poll::Pending
    }

    /// Reads once, and hands on what came.
    fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { bytes, contents } = scratch;
            let mut state = self.state();
            let kept = state.unread.len();
            if bytes.len() < kept + READ {
                // Zero pages of the kernel's: what is never read into takes no memory.
                *bytes = vec![0; kept + READ + CONTENT];
            }
            if let Some(place) = bytes.get_mut(..kept) {
                place.copy_from_slice(&state.unread);
            }
            let place = bytes.get_mut(kept..kept + READ).unwrap_or_default();
            let read = match self.0.socket.poll_read(cx, place) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(TunnelError::Closed)),
                Poll::Ready(read) => read?,
            };
            state.heard = true;
            let filled = bytes.get_mut(..kept + read).unwrap_or_default();
            Poll::Ready(state.absorb(filled, contents))
        })
    }

    /// Ends the tunnel: every stream is told, the peer as far as that is possible at once.
    pub(super) fn end(&self, why: Option<TunnelError>) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        // A peer that is not there, or broke its rules, has nothing to learn from a peaceful GOAWAY.
        if why.is_none() {
            state.http2.close(ErrorCode::NO_ERROR);
        }
        let _ = state.flush(&self.0.socket);
        if state.out.is_empty()
            && let Ok(record) = state.session.close_notify()
        {
            let _ = self.0.socket.try_write(&record);
        }
        state.end(why.unwrap_or(TunnelError::Here));
    }
}

impl State {
    /// Why the tunnel has ended, if it has.
    pub(super) fn ended(&self) -> Option<&TunnelError> {
        self.ended.as_ref()
    }

    /// Tells everyone that the tunnel has ended.
    fn end(&mut self, why: TunnelError) {
        self.ended = Some(why);
        self.streams.values_mut().for_each(Slot::wake);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// A request that the peer has made.
    pub(super) fn next_request(&mut self) -> Option<(StreamId, Head)> {
        self.requests.pop_front()
    }

    /// Whether the peer has sent anything since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Ends the tunnel once it has no stream.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
        self.ask_flush();
    }

    pub(super) fn ask_flush(&mut self) {
        if !self.flush_asked {
            self.flush_asked = true;
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
        }
    }

    /// Notes that a stream waits for room.
    pub(super) fn starve(&mut self, id: StreamId) {
        self.starved.push(id);
        self.ask_flush();
    }

    /// Control frames go ahead of DATA. False when there is no room for them.
    pub(super) fn push_control(&mut self) -> Result<bool, SessionError> {
        if self.http2.control().is_empty() {
            return Ok(true);
        }
        let pushed = self.out.push(self.http2.control(), &mut self.session)?;
        if pushed {
            self.http2.control().clear();
        }
        Ok(pushed)
    }

    /// Writes what waits; true when the kernel takes no more for now.
    fn flush(&mut self, socket: &Socket) -> Result<bool, TunnelError> {
        loop {
            self.push_control()?;
            self.out.close(&mut self.session)?;
            if self.session.wants_key_update() && self.out.has_room() {
                let record = self.session.update_key()?;
                self.out.push_sealed(&record);
            }
            if self.out.unsent().is_empty() {
                self.out.settle();
                return Ok(false);
            }
            match socket.try_write(self.out.unsent()) {
                Ok(written) => self.out.wrote(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn remember_driver(&mut self, cx: &Context<'_>) {
        match &self.driver {
            Some(driver) if driver.will_wake(cx.waker()) => {}
            _ => self.driver = Some(cx.waker().clone()),
        }
    }

    fn feed_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            if let Some(slot) = self.streams.get_mut(&id) {
                slot.wake();
            }
        }
    }

    fn is_over(&self) -> bool {
        let idle = self.streams.is_empty() && self.requests.is_empty();
        idle && self.out.is_empty() && (self.retiring || self.http2.is_over())
    }

    /// Opens the records in `bytes`, keeps the incomplete one at the end, and hands on the rest.
    fn absorb(
        &mut self,
        bytes: &mut [u8],
        contents: &mut Vec<Range<usize>>,
    ) -> Result<(), TunnelError> {
        contents.clear();
        let mut at = 0;
        let mut closed = false;
        while !closed && let Some(rest) = bytes.get_mut(at..) {
            match self.session.open(rest)? {
                Opened::Incomplete => break,
                Opened::Data { content, length } => {
                    contents.push(at + content.start..at + content.end);
                    at += length;
                }
                Opened::Internal { length } => at += length,
                Opened::Closed => closed = true,
            }
        }
        let rest = bytes.get(at..).unwrap_or_default();
        self.unread.clear();
        if rest.is_empty() {
            self.unread = Vec::new();
        } else {
            self.unread.extend_from_slice(rest);
        }
        self.dispatch(bytes, contents)?;
        match closed {
            true => Err(TunnelError::Closed),
            false => Ok(()),
        }
    }

    /// Hands the HTTP/2 frames in `contents` to their streams.
    fn dispatch(&mut self, bytes: &[u8], contents: &[Range<usize>]) -> Result<(), TunnelError> {
        let mut run = Run::default();
        for content in contents {
            let mut input = bytes.get(content.clone()).unwrap_or_default();
            while let Some(event) = self.http2.receive(&mut input)? {
                match event {
                    Event::Data {
                        stream,
                        payload,
                        end,
                    } => {
                        if !run.takes(stream) {
                            self.deliver(&mut run, false);
                        }
                        run.push(stream, payload);
                        if end {
                            self.deliver(&mut run, true);
                            self.with_slot(stream, Slot::end);
                        }
                    }
                    other => {
                        self.deliver(&mut run, false);
                        self.notify(other);
                    }
                }
            }
        }
        self.deliver(&mut run, false);
        Ok(())
    }

    fn deliver(&mut self, run: &mut Run<'_>, last: bool) {
        let id = run.stream();
        let bytes = run.bytes();
        if bytes == 0 {
            return;
        }
        let used = match self.streams.get_mut(&id) {
            Some(slot) => slot.deliver(run, last),
            None => bytes,
        };
        run.clear();
        if used > 0 {
            self.http2.release(id, used);
        }
    }

    fn notify(&mut self, event: Event<'_>) {
        match event {
            Event::Head { stream, head, end } => match self.streams.get_mut(&stream) {
                Some(slot) => slot.answer(head, end),
                None => {
                    self.streams.insert(stream, Slot::default());
                    if end {
                        self.with_slot(stream, Slot::end);
                    }
                    self.requests.push_back((stream, head));
                }
            },
            Event::Reset { stream, code } => self.with_slot(stream, |slot| slot.reset(code)),
            Event::Window(Some(stream)) => self.with_slot(stream, Slot::window_opened),
            Event::Window(None) => self.streams.values_mut().for_each(Slot::window_opened),
            Event::GoAway(code) => self.goaway = Some(code),
            Event::Pong(_) | Event::Data { .. } => {}
        }
    }

    fn with_slot(&mut self, id: StreamId, act: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.streams.get_mut(&id) {
            act(slot);
        }
    }

    /// Forgets a stream; what it still held is given back, and if it is not over it is reset.
    pub(super) fn forget(&mut self, id: StreamId, code: ErrorCode) {
        let Some(slot) = self.streams.remove(&id) else {
            return;
        };
        let held = slot.held();
        if held > 0 {
            self.http2.release(id, held);
        }
        self.http2.reset(id, code);
        self.ask_flush();
    }

    /// Where a stream's content goes from now on, what has come before included.
    pub(super) fn attach(&mut self, id: StreamId, sink: Sink) {
        self.with_slot(id, |slot| slot.attach(sink));
    }
}
