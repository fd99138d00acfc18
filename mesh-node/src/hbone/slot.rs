//! One stream's place in its tunnel: what came for it, and where that goes.

use mesh_http2::{ErrorCode, Head, StreamId};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::busy_poll;
use crate::socket::Socket;

/// Pieces that are written at once.
const PIECES: usize = 64;

/// The application's socket, and who counts what it took.
pub(super) struct Sink {
    pub(super) socket: Rc<Socket>,
    pub(super) count: Box<dyn Fn(usize)>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket.fmt(f)
    }
}

/// The state of one stream on this side.
#[derive(Debug, Default)]
pub(super) struct Slot {
    sink: Option<Sink>,
    /// Content that the application has not taken yet; the stream's window bounds it.
    backlog: VecDeque<u8>,
    head: Option<Head>,
    /// The peer sends no more.
    ended: bool,
    reset: Option<ErrorCode>,
    /// The application's socket failed.
    broken: Option<io::Error>,
    waits_for_window: bool,
    /// The application has taken something before.
    used: bool,
    waker: Option<Waker>,
}

impl Slot {
    /// Who is to be woken when something changes.
    pub(super) fn remember(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    pub(super) fn answer(&mut self, head: Head, end: bool) {
        self.head = Some(head);
        self.ended |= end;
        self.wake();
    }

    pub(super) fn take_head(&mut self) -> Option<Head> {
        self.head.take()
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    pub(super) fn reset(&mut self, code: ErrorCode) {
        self.reset = Some(code);
        self.wake();
    }

    /// The peer's reset, if it came.
    pub(super) fn was_reset(&self) -> Option<ErrorCode> {
        self.reset
    }

    /// The failure of the application's socket, once.
    pub(super) fn take_broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    pub(super) fn wait_for_window(&mut self) {
        self.waits_for_window = true;
    }

    pub(super) fn window_opened(&mut self) {
        if std::mem::take(&mut self.waits_for_window) {
            self.wake();
        }
    }

    pub(super) fn attach(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }

    /// Bytes that were received and not used.
    pub(super) fn held(&self) -> usize {
        self.backlog.len()
    }

    /// Whether everything the peer will ever send has come, delivered or not.
    pub(super) fn is_complete(&self) -> bool {
        self.ended
    }

    /// Whether everything the peer will ever send has been delivered.
    pub(super) fn is_delivered(&self) -> bool {
        self.ended && self.backlog.is_empty() && self.broken.is_none()
    }

    /// Writes what came to the application, and keeps what it does not take. Returns the bytes that
    /// are used up. After the `last` of the stream, [`Slot::end`] must follow at once.
    pub(super) fn deliver(&mut self, run: &Run<'_>, last: bool) -> usize {
        if self.reset.is_some() || self.broken.is_some() {
            return run.bytes();
        }
        let mut written = 0;
        if self.backlog.is_empty()
            && let Some(sink) = &self.sink
        {
            let result = match last {
                true => sink.socket.try_write_last(run.pieces()),
                false => sink.socket.try_write_vectored(run.pieces()),
            };
            match result {
                Ok(n) => {
                    written = n;
                    (sink.count)(n);
                    if self.used {
                        // Not for the first message: many connections carry only that one.
                        busy_poll::note(n);
                    }
                    self.used = true;
                }
                Err(e) if is_temporary(&e) => {}
                Err(e) => {
                    self.broken = Some(e);
                    self.wake();
                    return run.bytes();
                }
            }
        }
        if written < run.bytes() {
            let mut skip = written;
            for piece in run.pieces() {
                let rest = piece.get(skip.min(piece.len())..).unwrap_or_default();
                skip = skip.saturating_sub(piece.len());
                self.backlog.extend(rest);
            }
            self.wake();
        }
        written
    }

    /// Writes the backlog to the application; ready with the bytes that it took, zero when there are
    /// none to be written.
    pub(super) fn poll_backlog(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(sink) = &self.sink else {
            return Poll::Pending;
        };
        if self.backlog.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (front, back) = self.backlog.as_slices();
        let pieces = [IoSlice::new(front), IoSlice::new(back)];
        let written = match sink.socket.poll_write_vectored(cx, &pieces) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Poll::Pending,
        };
        (sink.count)(written);
        self.backlog.drain(..written);
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        Poll::Ready(Ok(written))
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Content of one stream that came in a row.
#[derive(Debug)]
pub(super) struct Run<'a> {
    stream: StreamId,
    pieces: [IoSlice<'a>; PIECES],
    count: usize,
    bytes: usize,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self {
            stream: 0,
            pieces: [IoSlice::new(&[]); PIECES],
            count: 0,
            bytes: 0,
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pieces(&self) -> &[IoSlice<'a>] {
        self.pieces.get(..self.count).unwrap_or_default()
    }

    /// Whether content of this stream can be added.
    pub(super) fn takes(&self, stream: StreamId) -> bool {
        self.count == 0 || (self.stream == stream && self.count < PIECES)
    }

    pub(super) fn push(&mut self, stream: StreamId, payload: &'a [u8]) {
        self.stream = stream;
        if payload.is_empty() {
            return;
        }
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = IoSlice::new(payload);
            self.count += 1;
            self.bytes += payload.len();
        }
    }

    pub(super) fn clear(&mut self) {
        (self.count, self.bytes) = (0, 0);
    }
}
