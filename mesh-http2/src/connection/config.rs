//! What this end announces to its peer.

use crate::frame::{DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW, MAX_MAX_FRAME_SIZE, MAX_WINDOW};

/// What this end announces. A value outside its range counts as the nearest one inside.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Receive window of one stream, bytes; at most 2,147,483,647.
    pub stream_window: u32,
    /// Receive window of the connection, bytes; 65,535 to 2,147,483,647.
    pub connection_window: u32,
    /// Largest DATA frame accepted, bytes; 16,384 to 16,777,215.
    pub max_frame_size: u32,
    /// Streams the peer may have open at once.
    pub max_streams: u32,
    /// Largest header list accepted, bytes as RFC 9113 section 6.5.2 counts them.
    pub max_header_list: u32,
}

impl Config {
    /// With every value in its range.
    pub(super) fn in_range(self) -> Self {
        Self {
            stream_window: self.stream_window.min(MAX_WINDOW),
            connection_window: self.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW),
            max_frame_size: self
                .max_frame_size
                .clamp(DEFAULT_MAX_FRAME_SIZE, MAX_MAX_FRAME_SIZE),
            ..self
        }
    }
}
