//! What a hostile peer could have without end, and how much of it there may be.

use super::{Connection, Role};
use crate::frame::{ConnectionError, ErrorCode};

/// Bytes of control frames that may wait to be written, requests not counted. Only a peer that makes us
/// answer and does not read the answers gets here.
pub(super) const CONTROL: usize = 128 << 10;
/// Frames in a row that carry nothing: DATA, HEADERS or CONTINUATION without a byte.
const EMPTY_FRAMES: u32 = 100;
/// Requests that may be given up, or have to be refused, before [`Connection::forgive`] is called; one
/// more for each that is answered.
const ABANDONED: u32 = 4096;
/// Streams on which the peer may break the rules before [`Connection::forgive`] is called.
const BROKEN: u32 = 256;

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Frames without content since the last with content.
    empty: u32,
    abandoned: u32,
    broken: u32,
    /// Bytes of our own requests that may wait among the control frames.
    requests: usize,
}

impl Limits {
    /// A frame that may carry something came.
    pub(super) fn frame(&mut self, empty: bool) {
        self.empty = if empty { self.empty + 1 } else { 0 };
    }

    /// The peer gave up a request before it was answered, or a request was refused.
    pub(super) fn abandoned(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.abandoned = self.abandoned.saturating_sub(1);
    }

    /// The peer broke the rules of a stream.
    pub(super) fn broken(&mut self) {
        self.broken = self.broken.saturating_add(1);
    }

    /// What happened so far counts no more.
    pub(super) fn forgive(&mut self) {
        (self.abandoned, self.broken) = (0, 0);
    }

    /// A request of `bytes` is appended to `waiting` bytes of control frames.
    pub(super) fn request(&mut self, bytes: usize, waiting: usize) {
        self.requests = self.requests.min(waiting) + bytes;
    }
}

impl Connection {
    /// # Errors
    /// ENHANCE_YOUR_CALM when the peer has had too much of something.
    pub(super) fn check_limits(&mut self) -> Result<(), ConnectionError> {
        let limits = &mut self.limits;
        // Those that were taken out wait no more.
        limits.requests = limits.requests.min(self.control.len());
        let too_much = if self.control.len() > CONTROL + limits.requests {
            "the peer does not read the answers that it causes"
        } else if limits.empty > EMPTY_FRAMES {
            "too many frames that carry nothing"
        } else if self.role == Role::Server && limits.abandoned > ABANDONED {
            "too many requests that are given up or have to be refused"
        } else if self.role == Role::Server && limits.broken > BROKEN {
            "the rules are broken on too many streams"
        } else {
            return Ok(());
        };
        Err(ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, too_much))
    }
}
