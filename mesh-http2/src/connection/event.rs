//! What the owner of a connection is told.

use super::StreamId;
use crate::Head;
use crate::frame::ErrorCode;

/// Something that the owner has to know. Of a stream that is gone, for whatever reason, nothing more
/// is told.
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
    ///
    /// [`Connection::release`]: crate::Connection::release
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
    /// The answer to a [`Connection::ping`]. A peer can also send it unasked: it counts only when it
    /// repeats the payload.
    ///
    /// [`Connection::ping`]: crate::Connection::ping
    Pong([u8; 8]),
    /// The peer takes no new streams; those it has not seen are reported as reset.
    GoAway(ErrorCode),
}
