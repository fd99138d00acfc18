//! SETTINGS, PING, WINDOW_UPDATE, RST_STREAM and GOAWAY of the peer.

use super::stream::Stream;
use super::{Connection, Event, LEAVING, Leaving, Role, StreamId};
use crate::frame::{self, ConnectionError, ErrorCode, Ping, RstStream, Settings};

impl Connection {
    pub(super) fn settings(
        &mut self,
        settings: &Settings,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if self.role == Role::Client && settings.enable_push == Some(true) {
            return Err(ConnectionError::protocol("a server that allows push"));
        }
        if !self.peer.known {
            self.peer.known = true;
            // Unless it says otherwise (section 6.5.2).
            self.peer.max_streams = u32::MAX;
        }
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
        frame::settings_ack(&mut self.control);
        Ok(Some(Event::Window(None)))
    }

    /// We send SETTINGS once, so the first acknowledgement is for them.
    pub(super) fn settings_acknowledged(&mut self) {
        self.acknowledged = true;
        for stream in self.streams.values_mut() {
            stream.receive_window.acknowledged();
        }
    }

    pub(super) fn ping_received(&mut self, ping: Ping) -> Option<Event<'static>> {
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

    pub(super) fn window_update(
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

    pub(super) fn reset_received(
        &mut self,
        id: StreamId,
        reset: RstStream,
    ) -> Result<Option<Event<'static>>, ConnectionError> {
        if !self.was_opened(id) {
            return Err(ConnectionError::protocol("RST_STREAM on an idle stream"));
        }
        let Some(stream) = self.streams.remove(&id) else {
            return Ok(None);
        };
        if stream.may_answer() {
            self.limits.abandoned();
        }
        Ok(Some(Event::Reset {
            stream: id,
            code: reset.code,
        }))
    }

    /// Streams after `last` were not and will not be worked on; their owners learn it one by one.
    pub(super) fn goaway_received(&mut self, last: StreamId) {
        self.peer_leaves = true;
        if self.role == Role::Client {
            let unseen = self.streams.keys().filter(|&&id| id > last);
            self.unseen.extend(unseen);
            self.unseen.sort_unstable_by(|a, b| b.cmp(a));
            for id in &self.unseen {
                self.streams.remove(id);
            }
        }
    }
}
