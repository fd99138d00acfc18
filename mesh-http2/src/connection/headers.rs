//! Header blocks: requests on a server, responses on a client.

use super::stream::Stream;
use super::{Connection, Event, Leaving, Role, StreamId};
use crate::Head;
use crate::frame::{ConnectionError, ErrorCode, FrameHeader, flag};
use crate::hpack::HpackError;

/// A header block with its CONTINUATION frames, bytes.
pub(super) const LARGEST_BLOCK: usize = 64 << 10;

/// A header block that is not complete yet.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: StreamId,
    end: bool,
    pub(super) bytes: Vec<u8>,
}

impl Connection {
    /// A HEADERS frame.
    pub(super) fn begin_block(
        &mut self,
        header: &FrameHeader,
        fragment: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let (stream, end) = (header.stream, header.has(flag::END_STREAM));
        if header.has(flag::END_HEADERS) {
            return self.headers(stream, end, fragment);
        }
        self.block = Some(Block {
            stream,
            end,
            bytes: fragment.to_vec(),
        });
        Ok(None)
    }

    /// A CONTINUATION frame, of which is known that it continues a block and does not make it too large.
    pub(super) fn continuation(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let Some(mut block) = self.block.take() else {
            return Ok(None);
        };
        block.bytes.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.headers(block.stream, block.end, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A complete header block.
    fn headers(
        &mut self,
        id: StreamId,
        end: bool,
        block: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let limit = usize::try_from(self.config.max_header_list).unwrap_or(usize::MAX);
        let mut head = Head::default();
        // Also of streams that nobody wants: the table must follow.
        let decoded = self
            .hpack
            .decode(block, limit, |name, value| head.push(name, value));
        let too_large = match decoded {
            Ok(()) => false,
            Err(HpackError::TooLarge { .. }) => true,
            Err(HpackError::Excessive { .. }) => {
                return Err(ConnectionError::new(
                    ErrorCode::ENHANCE_YOUR_CALM,
                    "a header list is far too large",
                ));
            }
            Err(HpackError::Compression(_)) => {
                return Err(ConnectionError::new(
                    ErrorCode::COMPRESSION_ERROR,
                    "a header block cannot be decoded",
                ));
            }
        };
        match self.role {
            Role::Server if !self.was_opened(id) => self.request_received(id, end, head, too_large),
            Role::Client if !self.was_opened(id) => {
                Err(ConnectionError::protocol("HEADERS on an idle stream"))
            }
            _ => self.more_headers(id, end, head, too_large),
        }
    }

    fn request_received(
        &mut self,
        id: StreamId,
        end: bool,
        head: Head,
        too_large: bool,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if id.is_multiple_of(2) {
            return Err(ConnectionError::protocol(
                "a client's stream with an even identifier",
            ));
        }
        self.last_peer = id;
        let refused = match head.check_request() {
            // Beyond the last stream of our GOAWAY: the peer opens it elsewhere.
            _ if self.leaving == Leaving::Final => Some(ErrorCode::REFUSED_STREAM),
            _ if too_large => Some(ErrorCode::ENHANCE_YOUR_CALM),
            Err(_) => Some(ErrorCode::PROTOCOL_ERROR),
            Ok(()) if self.streams.len() >= self.config.max_streams as usize => {
                Some(ErrorCode::REFUSED_STREAM)
            }
            Ok(()) => None,
        };
        if let Some(code) = refused {
            match code {
                ErrorCode::REFUSED_STREAM => self.limits.abandoned(),
                _ => self.limits.broken(),
            }
            self.write_reset(id, code);
            return Ok(None);
        }
        let mut stream = Stream::opened_there(self.peer.initial_window, self.new_receive_window());
        if end {
            stream.receive_ended();
        }
        self.streams.insert(id, stream);
        Ok(Some(Event::Head {
            stream: id,
            head,
            end,
        }))
    }

    /// HEADERS on a stream that was opened before: a response, or what CONNECT does not allow.
    fn more_headers(
        &mut self,
        id: StreamId,
        end: bool,
        head: Head,
        too_large: bool,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            if self.resets.covers(id) {
                return Ok(None);
            }
            return Err(ConnectionError::new(
                ErrorCode::STREAM_CLOSED,
                "HEADERS on a closed stream",
            ));
        };
        if !stream.receiving() {
            return Ok(Some(self.stream_error(id, ErrorCode::STREAM_CLOSED)));
        }
        // Section 8.5: after the heads, CONNECT streams carry DATA only.
        if !stream.awaits_head() || too_large || head.check_response().is_err() {
            return Ok(Some(self.stream_error(id, ErrorCode::PROTOCOL_ERROR)));
        }
        let interim = head.status().is_some_and(|status| status < 200);
        match (interim, end) {
            (true, false) => return Ok(None),
            (true, true) => return Ok(Some(self.stream_error(id, ErrorCode::PROTOCOL_ERROR))),
            _ => stream.head_received(),
        }
        if end {
            self.receive_ended(id);
        }
        Ok(Some(Event::Head {
            stream: id,
            head,
            end,
        }))
    }
}
