//! The payloads of all frames but SETTINGS, each checked as its section of RFC 9113 demands.

use super::{
    ConnectionError, ErrorCode, FrameError, FrameHeader, MAX_STREAM_ID, MAX_WINDOW, StreamError,
    flag,
};

/// Where the data of a DATA frame lies in its payload (RFC 9113 section 6.1). All of `header.length`
/// counts for flow control, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLayout {
    /// Bytes before the data: 1 for the padding's length, else 0.
    pub skip: u32,
    /// Bytes of data.
    pub data: u32,
    /// Bytes of padding after the data.
    pub padding: u32,
}

impl DataLayout {
    /// Lays out the payload, of which `first` is the first byte; it matters only when
    /// [`flag::PADDED`] is set and the payload is not empty.
    ///
    /// # Errors
    /// PROTOCOL_ERROR of the connection on stream 0, and for padding that does not fit; a
    /// FRAME_SIZE_ERROR of the stream (section 4.2) when there is no room for the padding's length.
    pub fn parse(header: &FrameHeader, first: u8) -> Result<Self, FrameError> {
        header.on_stream("DATA on stream 0")?;
        if !header.has(flag::PADDED) {
            return Ok(Self {
                skip: 0,
                data: header.length,
                padding: 0,
            });
        }
        let Some(rest) = header.length.checked_sub(1) else {
            let reason = "a padded DATA frame has no padding length";
            return Err(StreamError::frame_size(header.stream, reason).into());
        };
        let padding = u32::from(first);
        let Some(data) = rest.checked_sub(padding) else {
            return Err(ConnectionError::protocol("the padding of DATA exceeds the frame").into());
        };
        Ok(Self {
            skip: 1,
            data,
            padding,
        })
    }
}

/// A HEADERS frame (RFC 9113 section 6.2), without padding and the deprecated priority fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    /// The first fragment of the field block; the only one with END_HEADERS.
    pub fragment: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the payload.
    ///
    /// # Errors
    /// PROTOCOL_ERROR on stream 0, and for padding that does not fit; FRAME_SIZE_ERROR (section 4.2)
    /// when the fields that the flags announce are not there.
    pub fn parse(header: &FrameHeader, payload: &'a [u8]) -> Result<Self, ConnectionError> {
        const SHORT: ConnectionError =
            ConnectionError::frame_size("a HEADERS frame is shorter than its flags say");
        header.on_stream("HEADERS on stream 0")?;
        let (padding, rest) = if header.has(flag::PADDED) {
            let (first, rest) = payload.split_first().ok_or(SHORT)?;
            (usize::from(*first), rest)
        } else {
            (0, payload)
        };
        let rest = if header.has(flag::PRIORITY) {
            rest.get(5..).ok_or(SHORT)?
        } else {
            rest
        };
        let Some(end) = rest.len().checked_sub(padding) else {
            let reason = "the padding of HEADERS exceeds the frame";
            return Err(ConnectionError::protocol(reason));
        };
        Ok(Self {
            fragment: &rest[..end],
        })
    }
}

/// A PRIORITY frame (RFC 9113 section 6.3): deprecated, so only its form is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority;

impl Priority {
    /// Reads the payload.
    ///
    /// # Errors
    /// PROTOCOL_ERROR of the connection on stream 0; FRAME_SIZE_ERROR of the stream unless the payload
    /// has 5 bytes.
    pub fn parse(header: &FrameHeader, payload: &[u8]) -> Result<Self, FrameError> {
        header.on_stream("PRIORITY on stream 0")?;
        if payload.len() != 5 {
            let reason = "a PRIORITY frame has not 5 bytes";
            return Err(StreamError::frame_size(header.stream, reason).into());
        }
        Ok(Self)
    }
}

/// An RST_STREAM frame (RFC 9113 section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RstStream {
    /// Why the stream ends.
    pub code: ErrorCode,
}

impl RstStream {
    /// Reads the payload.
    ///
    /// # Errors
    /// PROTOCOL_ERROR on stream 0; FRAME_SIZE_ERROR unless the payload has 4 bytes.
    pub fn parse(header: &FrameHeader, payload: &[u8]) -> Result<Self, ConnectionError> {
        header.on_stream("RST_STREAM on stream 0")?;
        let Ok(code) = payload.try_into().map(u32::from_be_bytes) else {
            let reason = "an RST_STREAM frame has not 4 bytes";
            return Err(ConnectionError::frame_size(reason));
        };
        Ok(Self { code: code.into() })
    }
}

/// A PING frame (RFC 9113 section 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// True for the reply.
    pub ack: bool,
    /// What the reply repeats.
    pub opaque: [u8; 8],
}

impl Ping {
    /// Reads the payload.
    ///
    /// # Errors
    /// PROTOCOL_ERROR on any stream but 0; FRAME_SIZE_ERROR unless the payload has 8 bytes.
    pub fn parse(header: &FrameHeader, payload: &[u8]) -> Result<Self, ConnectionError> {
        header.on_connection("PING on a stream")?;
        let Ok(opaque) = payload.try_into() else {
            return Err(ConnectionError::frame_size("a PING frame has not 8 bytes"));
        };
        Ok(Self {
            ack: header.has(flag::ACK),
            opaque,
        })
    }
}

/// A GOAWAY frame (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway<'a> {
    /// The highest stream of the receiver's that the sender has or may have acted on.
    pub last_stream: u32,
    /// Why the connection ends.
    pub code: ErrorCode,
    /// What the sender adds for a person to read.
    pub debug: &'a [u8],
}

impl<'a> GoAway<'a> {
    /// Reads the payload.
    ///
    /// # Errors
    /// PROTOCOL_ERROR on any stream but 0; FRAME_SIZE_ERROR (section 4.2) below 8 bytes.
    pub fn parse(header: &FrameHeader, payload: &'a [u8]) -> Result<Self, ConnectionError> {
        header.on_connection("GOAWAY on a stream")?;
        let short = ConnectionError::frame_size("a GOAWAY frame has less than 8 bytes");
        let (last_stream, rest) = payload.split_first_chunk().ok_or(short)?;
        let (code, debug) = rest.split_first_chunk().ok_or(short)?;
        Ok(Self {
            last_stream: u32::from_be_bytes(*last_stream) & MAX_STREAM_ID,
            code: u32::from_be_bytes(*code).into(),
            debug,
        })
    }
}

/// A WINDOW_UPDATE frame (RFC 9113 section 6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUpdate {
    /// Bytes by which the window grows: 1 to [`MAX_WINDOW`].
    pub increment: u32,
}

impl WindowUpdate {
    /// Reads the payload.
    ///
    /// # Errors
    /// FRAME_SIZE_ERROR of the connection unless the payload has 4 bytes; for an increment of 0,
    /// PROTOCOL_ERROR of the stream, or of the connection on stream 0.
    pub fn parse(header: &FrameHeader, payload: &[u8]) -> Result<Self, FrameError> {
        const ZERO: &str = "a WINDOW_UPDATE of 0";
        let Ok(word) = payload.try_into().map(u32::from_be_bytes) else {
            let reason = "a WINDOW_UPDATE frame has not 4 bytes";
            return Err(ConnectionError::frame_size(reason).into());
        };
        match (word & MAX_WINDOW, header.stream) {
            (0, 0) => Err(ConnectionError::protocol(ZERO).into()),
            (0, stream) => Err(StreamError::protocol(stream, ZERO).into()),
            (increment, _) => Ok(Self { increment }),
        }
    }
}
