//! Frames: whether one may come now, and who deals with it.

use super::headers::LARGEST_BLOCK;
use super::read::Reading;
use super::{Connection, Event, StreamId};
use crate::frame::{
    ConnectionError, ErrorCode, FrameError, FrameHeader, GoAway, Headers, Ping, Priority,
    RstStream, Settings, StreamError, WindowUpdate, flag, kind,
};

/// The largest payload of a known frame other than DATA that is taken in, bytes. It is copied when it
/// comes in pieces.
const LARGEST_PAYLOAD: u32 = 64 << 10;
/// The largest payload of frames that have a fixed size, bytes.
const LARGEST_FIXED: u32 = 8;

impl Connection {
    /// A frame header is complete.
    pub(super) fn begin(
        &mut self,
        header: FrameHeader,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        self.check_begin(&header)?;
        self.reading = Reading::start();
        let carries = matches!(header.kind, kind::HEADERS | kind::CONTINUATION);
        if carries {
            let ends = header.kind == kind::HEADERS && header.has(flag::END_STREAM);
            self.limits.frame(header.length == 0 && !ends);
        }
        match header.kind {
            kind::DATA => self.begin_data(header),
            kind::PUSH_PROMISE => Err(ConnectionError::protocol("PUSH_PROMISE, which is off")),
            _ if header.length == 0 => self.frame(&header, &[]),
            kind::HEADERS..=kind::CONTINUATION => {
                self.reading = Reading::Payload(header);
                Ok(None)
            }
            // Section 4.1: frames of unknown types are ignored.
            _ => {
                self.reading = Reading::Skip(header.length as usize);
                Ok(None)
            }
        }
    }

    /// What can be wrong with a frame before its payload has come.
    fn check_begin(&self, header: &FrameHeader) -> Result<(), ConnectionError> {
        if !self.peer.known && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
        }
        let mut block = 0;
        match (&self.block, header.kind) {
            (Some(open), kind::CONTINUATION) if open.stream == header.stream => {
                block = open.bytes.len();
            }
            (Some(_), _) => {
                return Err(ConnectionError::protocol("a header block is interrupted"));
            }
            (None, kind::CONTINUATION) => {
                return Err(ConnectionError::protocol("CONTINUATION without HEADERS"));
            }
            (None, _) => {}
        }
        header.check_size(self.config.max_frame_size)?;
        let too_large = match header.kind {
            kind::PRIORITY | kind::RST_STREAM | kind::PING | kind::WINDOW_UPDATE
                if header.length > LARGEST_FIXED =>
            {
                return Err(ConnectionError::frame_size(
                    "a frame is larger than its type allows",
                ));
            }
            kind::HEADERS | kind::CONTINUATION => block + header.length as usize > LARGEST_BLOCK,
            kind::SETTINGS | kind::GOAWAY => header.length > LARGEST_PAYLOAD,
            _ => false,
        };
        match too_large {
            true => Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block, or the payload of a frame, is too large",
            )),
            false => Ok(()),
        }
    }

    /// A whole frame other than DATA.
    pub(super) fn frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        match header.kind {
            kind::HEADERS => {
                let fragment = Headers::parse(header, payload)?.fragment;
                self.begin_block(header, fragment)
            }
            kind::CONTINUATION => self.continuation(header, payload),
            kind::SETTINGS => match Settings::parse(header, payload)? {
                Some(settings) => self.settings(&settings),
                None => {
                    self.settings_acknowledged();
                    Ok(None)
                }
            },
            kind::PING => Ok(self.ping_received(Ping::parse(header, payload)?)),
            kind::WINDOW_UPDATE => match WindowUpdate::parse(header, payload) {
                Ok(update) => self.window_update(header.stream, update.increment),
                Err(error) => self.frame_error(error),
            },
            kind::RST_STREAM => {
                self.reset_received(header.stream, RstStream::parse(header, payload)?)
            }
            kind::GOAWAY => {
                let goaway = GoAway::parse(header, payload)?;
                self.goaway_received(goaway.last_stream);
                Ok(Some(Event::GoAway(goaway.code)))
            }
            kind::PRIORITY => match Priority::parse(header, payload) {
                Ok(Priority) => Ok(None),
                Err(error) => self.frame_error(error),
            },
            _ => Ok(None),
        }
    }

    /// A frame that is wrong in itself.
    pub(super) fn frame_error(
        &mut self,
        error: FrameError,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let StreamError {
            stream,
            code,
            reason,
        } = match error {
            FrameError::Connection(error) => return Err(error),
            FrameError::Stream(error) => error,
        };
        if !self.was_opened(stream) {
            // RST_STREAM may not be sent on an idle stream (section 6.4).
            return Err(ConnectionError::new(code, reason));
        }
        let open = self.streams.contains_key(&stream);
        Ok(open.then(|| self.stream_error(stream, code)))
    }

    /// The stream is reset for what the peer did.
    pub(super) fn stream_error(&mut self, id: StreamId, code: ErrorCode) -> Event<'static> {
        self.streams.remove(&id);
        self.write_reset(id, code);
        self.limits.broken();
        Event::Reset { stream: id, code }
    }
}
