//! What the peer sends: frames cut out of the byte stream, checked, and turned into events.

use super::stream::Stream;
use super::{Connection, Event, LEAVING, Leaving, Role, StreamId};
use crate::Head;
use crate::frame::{
    self, ConnectionError, DEFAULT_MAX_FRAME_SIZE, ErrorCode, FrameError, FrameHeader, GoAway,
    HEADER_LEN, Headers, Ping, Priority, RstStream, Settings, StreamError, WindowUpdate, flag,
    kind,
};
use crate::hpack::HpackError;

/// Frames other than DATA that are larger than this are refused: a header list is bounded by far less.
const LARGEST_CONTROL_FRAME: u32 = 64 << 10;
/// A header block with its CONTINUATION frames.
const LARGEST_BLOCK: usize = 64 << 10;
/// Frames of one kind in a row that carry nothing: DATA, HEADERS or CONTINUATION without a byte.
const EMPTY_FRAMES: u32 = 100;

/// Where in the byte stream we are.
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
    /// The pad length of a DATA frame.
    PadLength(DataFrame),
    /// The payload of a DATA frame.
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

/// A DATA frame that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataFrame {
    stream: StreamId,
    /// Content still to come, bytes.
    content: u32,
    /// Padding after it, bytes.
    padding: u32,
    end: bool,
    /// Nobody wants it: the stream is gone.
    unwanted: bool,
}

/// A header block that is not complete yet.
#[derive(Debug)]
pub(super) struct Block {
    stream: StreamId,
    end: bool,
    bytes: Vec<u8>,
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
        let result = self.read(input).and_then(|event| {
            self.check_control()?;
            Ok(event)
        });
        if let Err(error) = &result {
            self.close(error.code);
            *input = &[];
        }
        result
    }

    fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, ConnectionError> {
        loop {
            match &mut self.reading {
                // What is complete without further bytes.
                Reading::Payload(header) if header.length == 0 => {}
                Reading::Data(data) if data.content == 0 && data.padding == 0 => {
                    self.reading = Reading::start();
                    continue;
                }
                _ if input.is_empty() => return Ok(None),
                _ => {}
            }
            match &mut self.reading {
                Reading::Preface(matched) => {
                    let rest = frame::PREFACE.get(*matched..).unwrap_or_default();
                    let length = rest.len().min(input.len());
                    let (now, later) = input.split_at(length);
                    if !rest.starts_with(now) {
                        return Err(ConnectionError::protocol(
                            "the client's preface is not that of HTTP/2",
                        ));
                    }
                    *matched += length;
                    *input = later;
                    if *matched == frame::PREFACE.len() {
                        self.reading = Reading::start();
                    }
                }
                Reading::Header { bytes, have } => {
                    let length = input.len().min(bytes.len() - *have);
                    let (now, later) = input.split_at(length);
                    if let Some(missing) = bytes.get_mut(*have..*have + length) {
                        missing.copy_from_slice(now);
                    }
                    *have += length;
                    *input = later;
                    if *have == bytes.len() {
                        let header = FrameHeader::parse(bytes);
                        if let Some(event) = self.begin(header)? {
                            return Ok(Some(event));
                        }
                    }
                }
                Reading::Payload(header) => {
                    let header = *header;
                    let missing =
                        usize::try_from(header.length).unwrap_or(usize::MAX) - self.partial.len();
                    let (now, later) = input.split_at(missing.min(input.len()));
                    *input = later;
                    if now.len() < missing {
                        self.partial.extend_from_slice(now);
                        continue;
                    }
                    self.reading = Reading::start();
                    let event = if self.partial.is_empty() {
                        self.frame(header, now)?
                    } else {
                        let mut payload = std::mem::take(&mut self.partial);
                        payload.extend_from_slice(now);
                        self.frame(header, &payload)?
                    };
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Reading::PadLength(data) => {
                    let mut data = *data;
                    let (now, later) = input.split_at(1);
                    *input = later;
                    let padding = now.first().copied().map_or(0, u32::from);
                    let Some(content) = data.content.checked_sub(padding) else {
                        return Err(ConnectionError::protocol("more padding than payload"));
                    };
                    data.content = content;
                    data.padding = padding;
                    if !data.unwanted {
                        self.release(data.stream, usize::try_from(1 + padding).unwrap_or(0));
                    }
                    if let Some(event) = self.enter_data(data) {
                        return Ok(Some(event));
                    }
                }
                Reading::Data(data) if data.content > 0 => {
                    let length = input
                        .len()
                        .min(usize::try_from(data.content).unwrap_or(usize::MAX));
                    let (payload, later) = input.split_at(length);
                    *input = later;
                    data.content -= u32::try_from(length).unwrap_or(u32::MAX);
                    let data = *data;
                    if data.unwanted {
                        continue;
                    }
                    let end = data.end && data.content == 0;
                    if end {
                        self.receive_ended(data.stream);
                    }
                    return Ok(Some(Event::Data {
                        stream: data.stream,
                        payload,
                        end,
                    }));
                }
                Reading::Data(data) => {
                    let length = input
                        .len()
                        .min(usize::try_from(data.padding).unwrap_or(usize::MAX));
                    data.padding -= u32::try_from(length).unwrap_or(u32::MAX);
                    *input = input.get(length..).unwrap_or_default();
                }
            }
        }
    }

    /// A frame header is complete.
    fn begin(&mut self, header: FrameHeader) -> Result<Option<Event<'static>>, ConnectionError> {
        let limit = match header.kind {
            kind::DATA => self.config.max_frame_size.max(DEFAULT_MAX_FRAME_SIZE),
            _ => LARGEST_CONTROL_FRAME.min(self.config.max_frame_size),
        };
        if header.length > limit {
            return Err(ConnectionError::new(
                ErrorCode::FRAME_SIZE_ERROR,
                "a frame is larger than announced",
            ));
        }
        if !self.settled && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
        }
        if let Some(block) = &self.block
            && (header.kind != kind::CONTINUATION || header.stream != block.stream)
        {
            return Err(ConnectionError::protocol("a header block is interrupted"));
        }
        let carries = matches!(header.kind, kind::DATA | kind::HEADERS | kind::CONTINUATION);
        let ends = header.kind != kind::CONTINUATION && header.has(flag::END_STREAM);
        if carries && header.length == 0 && !ends {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(ConnectionError::new(
                    ErrorCode::ENHANCE_YOUR_CALM,
                    "too many frames that carry nothing",
                ));
            }
        } else if carries {
            self.empty_frames = 0;
        }
        if header.kind == kind::DATA {
            return self.begin_data(header);
        }
        self.reading = Reading::Payload(header);
        Ok(None)
    }

    fn begin_data(
        &mut self,
        header: FrameHeader,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let id = header.stream;
        if !self.was_opened(id) {
            return Err(ConnectionError::protocol("DATA on an idle stream"));
        }
        self.receive_window.receive(header.length)?;
        let mut event = None;
        let mut unwanted = true;
        match self.streams.get_mut(&id) {
            Some(stream) if stream.awaits_head() => {
                event = Some(self.stream_error(id, ErrorCode::PROTOCOL_ERROR));
            }
            Some(stream) if !stream.receiving() => {
                event = Some(self.stream_error(id, ErrorCode::STREAM_CLOSED));
            }
            Some(stream) => match stream.receive_window.receive(header.length) {
                Ok(()) => unwanted = false,
                Err(error) => event = Some(self.stream_error(id, error.code)),
            },
            None if self.reset_here.contains(&id) => {}
            None => {
                frame::rst_stream(&mut self.control, id, ErrorCode::STREAM_CLOSED);
                self.remember_reset(id);
            }
        }
        let data = DataFrame {
            stream: id,
            content: header.length,
            padding: 0,
            end: header.has(flag::END_STREAM),
            unwanted,
        };
        if unwanted {
            self.release(id, usize::try_from(header.length).unwrap_or(usize::MAX));
        }
        if header.has(flag::PADDED) {
            if header.length == 0 {
                return Err(ConnectionError::new(
                    ErrorCode::FRAME_SIZE_ERROR,
                    "a padded frame without a pad length",
                ));
            }
            self.reading = Reading::PadLength(DataFrame {
                content: header.length - 1,
                ..data
            });
            return Ok(event);
        }
        Ok(self.enter_data(data).or(event))
    }

    /// Content and padding lengths are known.
    fn enter_data(&mut self, data: DataFrame) -> Option<Event<'static>> {
        self.reading = Reading::Data(data);
        if data.content > 0 || !data.end || data.unwanted {
            return None;
        }
        self.receive_ended(data.stream);
        Some(Event::Data {
            stream: data.stream,
            payload: &[],
            end: true,
        })
    }

    fn receive_ended(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.receive_ended();
        }
        self.forget_if_over(id);
    }

    /// The stream is reset for what the peer did.
    fn stream_error(&mut self, id: StreamId, code: ErrorCode) -> Event<'static> {
        self.streams.remove(&id);
        frame::rst_stream(&mut self.control, id, code);
        self.remember_reset(id);
        Event::Reset { stream: id, code }
    }

    /// A whole frame other than DATA.
    fn frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        match header.kind {
            kind::HEADERS => {
                let fragment = Headers::parse(&header, payload)?.fragment;
                let end = header.has(flag::END_STREAM);
                if header.has(flag::END_HEADERS) {
                    return self.headers(header.stream, end, fragment);
                }
                self.block = Some(Block {
                    stream: header.stream,
                    end,
                    bytes: fragment.to_vec(),
                });
                Ok(None)
            }
            kind::CONTINUATION => self.continuation(header, payload),
            kind::SETTINGS => match Settings::parse(&header, payload)? {
                Some(settings) => self.settings(&settings),
                None => Ok(None),
            },
            kind::PING => Ok(self.ping_received(Ping::parse(&header, payload)?)),
            kind::WINDOW_UPDATE => match WindowUpdate::parse(&header, payload) {
                Ok(update) => self.window_update(header.stream, update.increment),
                Err(error) => self.frame_error(error),
            },
            kind::RST_STREAM => {
                self.reset_received(header.stream, RstStream::parse(&header, payload)?)
            }
            kind::GOAWAY => {
                let goaway = GoAway::parse(&header, payload)?;
                self.goaway_received(goaway.last_stream);
                Ok(Some(Event::GoAway(goaway.code)))
            }
            kind::PUSH_PROMISE => Err(ConnectionError::protocol(
                "PUSH_PROMISE, which was switched off",
            )),
            kind::PRIORITY => match Priority::parse(&header, payload) {
                Ok(Priority) => Ok(None),
                Err(error) => self.frame_error(error),
            },
            // Section 4.1: frames of unknown types are ignored.
            _ => Ok(None),
        }
    }

    /// A frame that is wrong in itself.
    fn frame_error(
        &mut self,
        error: FrameError,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        match error {
            FrameError::Connection(error) => Err(error),
            FrameError::Stream(StreamError { stream, .. }) if !self.was_opened(stream) => Err(
                ConnectionError::protocol("a malformed frame on an idle stream"),
            ),
            FrameError::Stream(error) => Ok(self
                .streams
                .contains_key(&error.stream)
                .then(|| self.stream_error(error.stream, error.code))),
        }
    }

    fn continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        let Some(mut block) = self.block.take() else {
            return Err(ConnectionError::protocol("CONTINUATION without HEADERS"));
        };
        if block.bytes.len() + payload.len() > LARGEST_BLOCK {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block is too large",
            ));
        }
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
            frame::rst_stream(&mut self.control, id, code);
            self.remember_reset(id);
            return Ok(None);
        }
        let mut stream = Stream::opened_there(self.peer.initial_window, self.config.stream_window);
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
            if self.reset_here.contains(&id) {
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

    fn settings(&mut self, settings: &Settings) -> Result<Option<Event<'static>>, ConnectionError> {
        if self.role == Role::Client && settings.enable_push == Some(true) {
            return Err(ConnectionError::protocol("a server that allows push"));
        }
        self.settled = true;
        frame::settings_ack(&mut self.control);
        if let Some(size) = settings.max_frame_size {
            self.peer.max_frame_size = size;
        }
        if let Some(streams) = settings.max_concurrent_streams {
            self.peer.max_streams = streams;
        }
        if let Some(window) = settings.initial_window_size {
            let change = i64::from(window) - i64::from(self.peer.initial_window);
            self.peer.initial_window = window;
            let fits = |stream: &mut Stream| stream.send_window.adjust(change);
            if !self.streams.values_mut().all(fits) {
                return Err(ConnectionError::flow_control(
                    "a new initial window makes a stream's window too large",
                ));
            }
        }
        Ok(Some(Event::Window(None)))
    }

    fn ping_received(&mut self, ping: Ping) -> Option<Event<'static>> {
        if !ping.ack {
            frame::ping(&mut self.control, ping.opaque, true);
            return None;
        }
        if ping.opaque == LEAVING && self.leaving == Leaving::Announced {
            self.leaving = Leaving::Final;
            self.go_away(ErrorCode::NO_ERROR);
            return None;
        }
        Some(Event::Pong(ping.opaque))
    }

    fn window_update(
        &mut self,
        id: StreamId,
        increment: u32,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if id == 0 {
            return match self.send_window.adjust(i64::from(increment)) {
                true => Ok(Some(Event::Window(None))),
                false => Err(ConnectionError::flow_control(
                    "WINDOW_UPDATE makes the connection's window too large",
                )),
            };
        }
        if !self.was_opened(id) {
            return Err(ConnectionError::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        Ok(Some(
            match stream.send_window.adjust(i64::from(increment)) {
                true => Event::Window(Some(id)),
                false => self.stream_error(id, ErrorCode::FLOW_CONTROL_ERROR),
            },
        ))
    }

    fn reset_received(
        &mut self,
        id: StreamId,
        reset: RstStream,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if !self.was_opened(id) {
            return Err(ConnectionError::protocol("RST_STREAM on an idle stream"));
        }
        Ok(self.streams.remove(&id).map(|_| Event::Reset {
            stream: id,
            code: reset.code,
        }))
    }

    /// Streams after `last` were not and will not be worked on; their owners learn it one by one.
    fn goaway_received(&mut self, last: StreamId) {
        self.peer_leaves = true;
        if self.role == Role::Client {
            let unseen = self.streams.keys().filter(|&&id| id > last);
            self.unseen.extend(unseen);
            for id in &self.unseen {
                self.streams.remove(id);
            }
        }
    }
}
