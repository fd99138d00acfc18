//! What the owner sends.

use super::stream::Stream;
use super::{Connection, LEAVING, Leaving, Role, StreamId};
use crate::frame::{
    self, DEFAULT_MAX_FRAME_SIZE, ErrorCode, FrameHeader, HEADER_LEN, MAX_STREAM_ID, flag, kind,
};
use crate::hpack;

impl Connection {
    /// Opens a stream with a request of these fields, pseudo-header fields first. None when no
    /// stream may be opened now.
    pub fn request<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Option<StreamId> {
        if !self.can_open() {
            return None;
        }
        let id = self.next;
        self.next += 2;
        let before = self.control.len();
        self.send_head(id, fields, false);
        self.limits.request(self.control.len() - before, before);
        let stream = Stream::opened_here(self.peer.initial_window, self.new_receive_window());
        self.streams.insert(id, stream);
        Some(id)
    }

    /// Answers a request, and ends the answer when `end` is set. False when the stream is gone.
    pub fn respond<'a>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) -> bool {
        if self.closed || !self.streams.get(&id).is_some_and(Stream::may_answer) {
            return false;
        }
        self.send_head(id, fields, end);
        self.limits.answered();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.answered();
            if end {
                stream.send_ended();
            }
        }
        self.forget_if_over(id);
        true
    }

    fn send_head<'a>(
        &mut self,
        id: StreamId,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) {
        let mut block = Vec::with_capacity(256);
        hpack::encode(&mut block, fields.into_iter());
        frame::headers(&mut self.control, id, &block, end, self.peer.max_frame_size);
    }

    /// Bytes of DATA that the window of the connection allows now, whatever those of its streams do.
    #[must_use]
    pub fn connection_capacity(&self) -> usize {
        self.send_window.available()
    }

    /// Bytes of DATA that both windows allow on this stream now; zero when it is gone.
    #[must_use]
    pub fn capacity(&self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.may_send() && !self.closed => stream
                .send_window
                .available()
                .min(self.send_window.available()),
            _ => 0,
        }
    }

    /// The header of a DATA frame of `length` bytes, at most [`Connection::capacity`] and at most
    /// 16,384 (every peer takes that). Its payload must follow it. None when the stream is gone, or
    /// when the windows do not allow it.
    pub fn data(&mut self, id: StreamId, length: usize, end: bool) -> Option<[u8; HEADER_LEN]> {
        if self.closed {
            return None;
        }
        let size = u32::try_from(length).ok()?;
        let stream = self.streams.get_mut(&id).filter(|s| s.may_send())?;
        let room = stream.send_window.available();
        if length > room.min(self.send_window.available()) || size > DEFAULT_MAX_FRAME_SIZE {
            return None;
        }
        stream.send_window.spend(length);
        self.send_window.spend(length);
        if end {
            stream.send_ended();
            self.forget_if_over(id);
        }
        let header = FrameHeader {
            length: size,
            kind: kind::DATA,
            flags: if end { flag::END_STREAM } else { 0 },
            stream: id,
        };
        Some(header.encode())
    }

    /// Resets a stream; nothing happens when it is gone already.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.unseen.retain(|&unseen| unseen != id);
        if self.streams.remove(&id).is_some() && !self.closed {
            self.drop_data(id);
            self.write_reset(id, code);
        }
    }

    /// Gives back content that was used, so that the peer may send more. All content of
    /// [`Event::Data`] must be given back, also that of streams that are gone. What exceeds the content
    /// that is still out counts for nothing.
    ///
    /// [`Event::Data`]: super::Event::Data
    pub fn release(&mut self, id: StreamId, bytes: usize) {
        self.release_connection(bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if !self.closed
            && let Some(stream) = self.streams.get_mut(&id)
            && stream.receiving()
            && let Some(increment) = stream.receive_window.release(bytes)
        {
            frame::window_update(&mut self.control, id, increment);
        }
    }

    /// Gives back what counts for the connection alone.
    pub(super) fn release_connection(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if !self.closed
            && let Some(increment) = self.receive_window.release(bytes)
        {
            frame::window_update(&mut self.control, 0, increment);
        }
    }

    /// Asks the peer for a sign of life; [`Event::Pong`] brings the payload back.
    ///
    /// [`Event::Pong`]: super::Event::Pong
    pub fn ping(&mut self, payload: [u8; 8]) {
        if !self.closed {
            frame::ping(&mut self.control, payload, false);
        }
    }

    /// Forgets how often the peer has given up requests and broken the rules of a stream: both are
    /// limited. To be called at intervals, such as every ten seconds, so that only the rate counts.
    pub fn forgive(&mut self) {
        self.limits.forgive();
    }

    /// Starts to leave: the peer is told, streams that it opened before it knew are still served,
    /// later ones are refused. This end opens no more.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No && !self.closed {
            self.leaving = Leaving::Announced;
            let last = match self.role {
                // Of the server's streams, of which there are none.
                Role::Client => 0,
                Role::Server => MAX_STREAM_ID,
            };
            frame::goaway(&mut self.control, last, ErrorCode::NO_ERROR, &[]);
            frame::ping(&mut self.control, LEAVING, false);
        }
    }

    /// Ends the connection, in peace or with an error: GOAWAY waits in [`Connection::control`], input
    /// is ignored.
    pub fn close(&mut self, code: ErrorCode) {
        if !self.closed {
            self.closed = true;
            self.go_away(code);
        }
    }

    pub(super) fn go_away(&mut self, code: ErrorCode) {
        self.promised = self.promised.min(self.last_peer);
        frame::goaway(&mut self.control, self.promised, code, &[]);
    }
}
