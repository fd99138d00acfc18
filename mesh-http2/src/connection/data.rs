//! DATA: counted against the windows when its header has come, handed out as it comes.

use super::read::{Reading, take};
use super::{Connection, Event, StreamId};
use crate::frame::{ConnectionError, DataLayout, ErrorCode, FrameHeader, flag};

/// A DATA frame that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataFrame {
    stream: StreamId,
    /// Content still to come, bytes.
    content: usize,
    /// Padding after it, bytes.
    padding: usize,
    end: bool,
    /// False when the stream is gone: the content that is still to come has been given back.
    wanted: bool,
}

impl Connection {
    /// The header of a DATA frame.
    pub(super) fn begin_data(
        &mut self,
        header: FrameHeader,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if !self.was_opened(header.stream) {
            return Err(ConnectionError::protocol("DATA on an idle stream"));
        }
        self.receive_window.receive(header.length)?;
        let (wanted, event) = match self.accept_data(&header) {
            Ok(()) => (true, None),
            Err(event) => {
                self.release_connection(header.length as usize);
                (false, event)
            }
        };
        if header.has(flag::PADDED) && header.length > 0 {
            self.reading = Reading::PadLength { header, wanted };
            return Ok(event);
        }
        Ok(event.or(self.lay_out(&header, 0, wanted)?))
    }

    /// Counts a frame against the window of its stream. When nobody wants it, what is to be told.
    fn accept_data(&mut self, header: &FrameHeader) -> Result<(), Option<Event<'static>>> {
        let id = header.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            if !self.resets.covers(id) {
                self.limits.broken();
                self.write_reset(id, ErrorCode::STREAM_CLOSED);
            }
            return Err(None);
        };
        let code = if stream.awaits_head() {
            ErrorCode::PROTOCOL_ERROR
        } else if !stream.receiving() {
            ErrorCode::STREAM_CLOSED
        } else {
            match stream.receive_window.receive(header.length) {
                Ok(()) => return Ok(()),
                Err(error) => error.code,
            }
        };
        Err(Some(self.stream_error(id, code)))
    }

    /// The lengths of content and padding are known: `first` is the first byte of a padded frame.
    pub(super) fn lay_out(
        &mut self,
        header: &FrameHeader,
        first: u8,
        wanted: bool,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        self.reading = Reading::start();
        let layout = match DataLayout::parse(header, first) {
            Ok(layout) => layout,
            Err(error) => return self.frame_error(error),
        };
        let data = DataFrame {
            stream: header.stream,
            content: layout.data as usize,
            padding: layout.padding as usize,
            end: header.has(flag::END_STREAM),
            wanted,
        };
        self.limits.frame(layout.data == 0 && !data.end);
        if layout.data + layout.padding > 0 {
            self.reading = Reading::Data(data);
        }
        if !wanted {
            return Ok(None);
        }
        // Padding counts for flow control, and is used up at once.
        self.release(data.stream, (layout.skip + layout.padding) as usize);
        Ok((layout.data == 0 && data.end).then(|| self.ended(data.stream, &[])))
    }

    /// More of a DATA frame.
    pub(super) fn content<'a>(
        &mut self,
        mut data: DataFrame,
        input: &mut &'a [u8],
    ) -> Option<Event<'a>> {
        let payload = take(input, data.content);
        data.content -= payload.len();
        if payload.is_empty() {
            data.padding -= take(input, data.padding).len();
        }
        self.reading = match data.content + data.padding {
            0 => Reading::start(),
            _ => Reading::Data(data),
        };
        if payload.is_empty() || !data.wanted {
            return None;
        }
        if data.end && data.content == 0 {
            return Some(self.ended(data.stream, payload));
        }
        Some(Event::Data {
            stream: data.stream,
            payload,
            end: false,
        })
    }

    /// The last content of a stream.
    fn ended<'a>(&mut self, id: StreamId, payload: &'a [u8]) -> Event<'a> {
        self.receive_ended(id);
        Event::Data {
            stream: id,
            payload,
            end: true,
        }
    }

    pub(super) fn receive_ended(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.receive_ended();
        }
        self.forget_if_over(id);
    }

    /// The stream is gone: nobody wants the rest of its DATA frame, if one is being read.
    pub(super) fn drop_data(&mut self, id: StreamId) {
        let rest = match &mut self.reading {
            Reading::PadLength { header, wanted } if header.stream == id && *wanted => {
                *wanted = false;
                header.length as usize
            }
            Reading::Data(data) if data.stream == id && data.wanted => {
                data.wanted = false;
                data.content
            }
            _ => return,
        };
        self.release_connection(rest);
    }
}
