//! Frames (RFC 9113 sections 4 and 6): the header, the checked payloads, and the encoders.
//!
//! A payload parser gets the frame header and exactly the payload it announces. It checks what the
//! frame says about itself; whether the frame may arrive in the present state is the connection's
//! to decide.

mod encode;
mod error;
mod payload;
mod settings;

pub use encode::{
    data_header, goaway, headers, ping, rst_stream, settings, settings_ack, window_update,
};
pub use error::{ConnectionError, ErrorCode, FrameError, StreamError};
pub use payload::{DataLayout, GoAway, Headers, Ping, Priority, RstStream, WindowUpdate};
pub use settings::Settings;

/// What a client sends before its first frame (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of a frame header in bytes (RFC 9113 section 4.1).
pub const HEADER_LEN: usize = 9;
/// The largest payload every peer accepts, in bytes: the initial SETTINGS_MAX_FRAME_SIZE (section 6.5.2).
pub const DEFAULT_MAX_FRAME_SIZE: u32 = 1 << 14;
/// The largest value of SETTINGS_MAX_FRAME_SIZE, in bytes (section 6.5.2).
pub const MAX_MAX_FRAME_SIZE: u32 = (1 << 24) - 1;
/// Every flow-control window before any SETTINGS or WINDOW_UPDATE, in bytes (section 6.9.2).
pub const DEFAULT_WINDOW: u32 = (1 << 16) - 1;
/// The largest flow-control window, in bytes (section 6.9.1).
pub const MAX_WINDOW: u32 = (1 << 31) - 1;
/// The largest stream identifier (section 5.1.1).
pub const MAX_STREAM_ID: u32 = (1 << 31) - 1;

/// Frame types (RFC 9113 section 6).
pub mod kind {
    /// DATA (section 6.1).
    pub const DATA: u8 = 0x0;
    /// HEADERS (section 6.2).
    pub const HEADERS: u8 = 0x1;
    /// PRIORITY (section 6.3).
    pub const PRIORITY: u8 = 0x2;
    /// RST_STREAM (section 6.4).
    pub const RST_STREAM: u8 = 0x3;
    /// SETTINGS (section 6.5).
    pub const SETTINGS: u8 = 0x4;
    /// PUSH_PROMISE (section 6.6).
    pub const PUSH_PROMISE: u8 = 0x5;
    /// PING (section 6.7).
    pub const PING: u8 = 0x6;
    /// GOAWAY (section 6.8).
    pub const GOAWAY: u8 = 0x7;
    /// WINDOW_UPDATE (section 6.9).
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// CONTINUATION (section 6.10).
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags (RFC 9113 section 6).
pub mod flag {
    /// The sender's last frame on the stream: DATA, HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// A reply: SETTINGS, PING.
    pub const ACK: u8 = 0x1;
    /// The field block ends with this frame: HEADERS, CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// The payload begins with the length of the padding that ends it: DATA, HEADERS.
    pub const PADDED: u8 = 0x8;
    /// The payload carries the deprecated priority fields: HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// The header of a frame (RFC 9113 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Size of the payload in bytes, at most [`MAX_MAX_FRAME_SIZE`].
    pub length: u32,
    /// The type, one of [`kind`] or an extension's.
    pub kind: u8,
    /// The flags, of [`flag`]; those that the type does not define mean nothing.
    pub flags: u8,
    /// The stream, or 0 for the connection; at most [`MAX_STREAM_ID`].
    pub stream: u32,
}

impl FrameHeader {
    /// Reads a header. The reserved bit is ignored, as section 4.1 demands, so this cannot fail.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_STREAM_ID,
        }
    }

    /// The bytes of this header. A length or stream above its maximum loses its high bits.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = (self.stream & MAX_STREAM_ID).to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// True when the header carries this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Refuses a payload above the SETTINGS_MAX_FRAME_SIZE that this endpoint announced.
    ///
    /// # Errors
    /// FRAME_SIZE_ERROR (section 4.2). The payload of such a frame is not read, so no frame after it
    /// could be: the connection ends whatever the type.
    pub fn check_size(&self, max_frame_size: u32) -> Result<(), ConnectionError> {
        if self.length > max_frame_size {
            return Err(ConnectionError::frame_size(
                "a frame is larger than SETTINGS_MAX_FRAME_SIZE",
            ));
        }
        Ok(())
    }

    /// For frames of the connection as a whole.
    fn on_connection(&self, otherwise: &'static str) -> Result<(), ConnectionError> {
        match self.stream {
            0 => Ok(()),
            _ => Err(ConnectionError::protocol(otherwise)),
        }
    }

    /// For frames of one stream.
    fn on_stream(&self, otherwise: &'static str) -> Result<(), ConnectionError> {
        match self.stream {
            0 => Err(ConnectionError::protocol(otherwise)),
            _ => Ok(()),
        }
    }
}
