//! The errors of HTTP/2: their codes, and how far each reaches (RFC 9113 sections 5.4 and 7).

use std::fmt::{self, Display, Formatter};
use thiserror::Error;

/// Why a stream or a connection ends (RFC 9113 section 7). Unknown codes are kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// Not an error: a graceful end.
    pub const NO_ERROR: Self = Self(0x0);
    /// The peer broke the protocol, and no other code says how.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// This endpoint failed.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer sent more than its flow-control window.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// A SETTINGS frame was not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame came on a stream that the peer had ended.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame has a size that its type does not allow.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was refused before anything was done for it.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(0x8);
    /// The field compression state cannot be kept.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The connection behind a CONNECT request was reset or closed abnormally.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport does not meet the minimum security requirements.
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// HTTP/1.1 must be used instead.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The name that RFC 9113 gives the code, if it knows it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_ERROR => "NO_ERROR",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            Self::STREAM_CLOSED => "STREAM_CLOSED",
            Self::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Self::CONNECT_ERROR => "CONNECT_ERROR",
            Self::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Self::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
            Self::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
            Self(_) => return None,
        })
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl From<ErrorCode> for u32 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

impl Display for ErrorCode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

/// The connection cannot go on: GOAWAY with this code, then close (RFC 9113 section 5.4.1).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("connection error {code}: {reason}")]
pub struct ConnectionError {
    /// The code of the GOAWAY frame.
    pub code: ErrorCode,
    /// What the peer did.
    pub reason: &'static str,
}

impl ConnectionError {
    /// An error of this code.
    pub const fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// A PROTOCOL_ERROR.
    pub const fn protocol(reason: &'static str) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, reason)
    }

    /// A FRAME_SIZE_ERROR.
    pub const fn frame_size(reason: &'static str) -> Self {
        Self::new(ErrorCode::FRAME_SIZE_ERROR, reason)
    }

    /// A FLOW_CONTROL_ERROR.
    pub const fn flow_control(reason: &'static str) -> Self {
        Self::new(ErrorCode::FLOW_CONTROL_ERROR, reason)
    }
}

/// One stream cannot go on: RST_STREAM with this code; the others do (RFC 9113 section 5.4.2).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("stream {stream}: {code}: {reason}")]
pub struct StreamError {
    /// The stream.
    pub stream: u32,
    /// The code of the RST_STREAM frame.
    pub code: ErrorCode,
    /// What the peer did.
    pub reason: &'static str,
}

impl StreamError {
    /// An error of this code.
    pub const fn new(stream: u32, code: ErrorCode, reason: &'static str) -> Self {
        Self {
            stream,
            code,
            reason,
        }
    }

    /// A PROTOCOL_ERROR.
    pub const fn protocol(stream: u32, reason: &'static str) -> Self {
        Self::new(stream, ErrorCode::PROTOCOL_ERROR, reason)
    }

    /// A FRAME_SIZE_ERROR.
    pub const fn frame_size(stream: u32, reason: &'static str) -> Self {
        Self::new(stream, ErrorCode::FRAME_SIZE_ERROR, reason)
    }
}

/// A frame whose errors may reach either far.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The connection ends.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The stream ends.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
