//! The byte stream, cut into frames.

use super::data::DataFrame;
use super::{Connection, Event};
use crate::frame::{self, ConnectionError, ErrorCode, FrameHeader, HEADER_LEN};

/// Where in the byte stream we are. No state is complete: each needs at least one byte more.
#[derive(Debug)]
pub(super) enum Reading {
    /// Bytes of the client's preface that have matched.
    Preface(usize),
    /// Part of a frame header.
    Header {
        bytes: [u8; HEADER_LEN],
        have: usize,
    },
    /// The payload of a frame other than DATA.
    Payload(FrameHeader),
    /// Bytes of a payload that nobody looks at.
    Skip(usize),
    /// The pad length of a DATA frame.
    PadLength {
        header: FrameHeader,
        /// False when the stream is gone: all of the frame has been given back.
        wanted: bool,
    },
    /// Content or padding of a DATA frame.
    Data(DataFrame),
}

impl Reading {
    pub(super) const fn start() -> Self {
        Self::Header {
            bytes: [0; HEADER_LEN],
            have: 0,
        }
    }

    pub(super) const fn preface() -> Self {
        Self::Preface(0)
    }
}

impl Connection {
    /// Reads `input` up to the next event, and moves it on past what was read. None when all of it is
    /// read. To be called until it returns none, and again when there is more.
    ///
    /// # Errors
    /// The peer broke the protocol. GOAWAY waits in [`Connection::control`]; nothing more is read.
    pub fn receive<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, ConnectionError> {
        if self.closed {
            *input = &[];
            return Ok(None);
        }
        if let Some(stream) = self.unseen.pop() {
            let code = ErrorCode::REFUSED_STREAM;
            return Ok(Some(Event::Reset { stream, code }));
        }
        let result = self.read(input);
        if let Err(error) = &result {
            self.close(error.code);
            *input = &[];
        }
        result
    }

    fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ConnectionError> {
        while !input.is_empty() {
            let event = self.step(input)?;
            self.check_limits()?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Reads at least one byte, and at most to the end of what is being read.
    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ConnectionError> {
        match &mut self.reading {
            Reading::Preface(matched) => {
                let rest = frame::PREFACE.get(*matched..).unwrap_or_default();
                let now = take(input, rest.len());
                if !rest.starts_with(now) {
                    return Err(ConnectionError::protocol(
                        "the client's preface is not that of HTTP/2",
                    ));
                }
                *matched += now.len();
                if now.len() == rest.len() {
                    self.reading = Reading::start();
                }
                Ok(None)
            }
            Reading::Header { bytes, have } => {
                let now = take(input, bytes.len() - *have);
                if let Some(missing) = bytes.get_mut(*have..*have + now.len()) {
                    missing.copy_from_slice(now);
                }
                *have += now.len();
                if *have < bytes.len() {
                    return Ok(None);
                }
                let header = FrameHeader::parse(bytes);
                self.begin(header)
            }
            Reading::Payload(header) => {
                let header = *header;
                self.payload(header, input)
            }
            Reading::Skip(left) => {
                *left -= take(input, *left).len();
                if *left == 0 {
                    self.reading = Reading::start();
                }
                Ok(None)
            }
            Reading::PadLength { header, wanted } => {
                let (header, wanted) = (*header, *wanted);
                let length = take(input, 1).first().copied().unwrap_or_default();
                self.lay_out(&header, length, wanted)
            }
            Reading::Data(data) => {
                let data = *data;
                Ok(self.content(data, input))
            }
        }
    }

    /// More of the payload of a frame other than DATA. Only one that comes in pieces is copied.
    fn payload(
        &mut self,
        header: FrameHeader,
        input: &mut &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let missing = header.length as usize - self.partial.len();
        let now = take(input, missing);
        if now.len() < missing {
            self.partial.extend_from_slice(now);
            return Ok(None);
        }
        self.reading = Reading::start();
        if self.partial.is_empty() {
            return self.frame(&header, now);
        }
        let mut payload = std::mem::take(&mut self.partial);
        payload.extend_from_slice(now);
        self.frame(&header, &payload)
    }
}

/// The first bytes of `input`, which moves on past them.
pub(super) fn take<'a>(input: &mut &'a [u8], at_most: usize) -> &'a [u8] {
    let (now, later) = input.split_at(at_most.min(input.len()));
    *input = later;
    now
}
