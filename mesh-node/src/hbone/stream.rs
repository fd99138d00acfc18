//! A CONNECT stream in the hands of its owner.

use mesh_http2::{ErrorCode, Head, StreamId};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use thiserror::Error;

use super::link::{Link, State, TunnelError};
use super::outgoing::{LARGEST_READ, MOST_RECORDS};
use super::slot::Sink;
use crate::busy_poll;
use crate::socket::Socket;

/// A read of this size is worth a write of its own; smaller ones wait for those of other streams.
const WORTH_WRITING: usize = 64 << 10;

/// A stream that did not end with an end from both sides.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The peer reset it.
    #[error("the peer reset the tunnel stream: {0}")]
    Reset(ErrorCode),
    /// Its tunnel ended.
    #[error("the tunnel ended: {0}")]
    Tunnel(#[from] TunnelError),
    /// The application's connection broke.
    #[error("{0}")]
    Socket(#[from] io::Error),
}

impl StreamError {
    /// Whether the peer says that policy no longer allows the connection.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Reset(code) if *code == ErrorCode::from(DENIED))
    }
}

/// What a peer is told by the reset of a connection that policy no longer allows. HTTP/2 has no code for that; to
/// a peer that does not know this one it is an error like any other (RFC 9113, section 7).
const DENIED: u32 = 0x5745_4654;

/// Ends a stream that is in other hands.
#[derive(Debug)]
pub struct Revoker {
    link: Link,
    id: StreamId,
}

impl Revoker {
    /// Resets the stream, and tells the peer that policy did so.
    pub fn revoke(&self) {
        self.link.state().forget(self.id, DENIED.into());
    }
}

/// How an application is read from.
#[derive(Debug)]
pub struct Reading {
    /// Records to read into at once: more while reads fill them, fewer when they do not.
    records: u8,
    /// Something was read before.
    used: bool,
    stalled: bool,
    /// Nothing but the end of the application's stream is to be read.
    ended: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            records: 1,
            used: false,
            stalled: false,
            ended: false,
        }
    }
}

impl Reading {
    /// Whether nothing is read because the peer's window is used up.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    fn adapt(&mut self, read: usize, offered: usize) {
        if read == offered {
            self.records = (self.records * 2).min(MOST_RECORDS);
        } else if read < offered / 4 {
            self.records = (self.records / 2).max(1);
        }
    }
}

/// One stream. Reset when dropped before it is over.
#[derive(Debug)]
pub struct Stream {
    link: Link,
    id: StreamId,
}

impl Stream {
    pub(super) fn new(link: Link, id: StreamId) -> Self {
        Self { link, id }
    }

    /// The stream fails, if the peer, the application or the tunnel made it so. What has all come
    /// already is delivered without a tunnel.
    fn check_in(&self, state: &mut State) -> Result<(), StreamError> {
        if let Some(slot) = state.streams.get_mut(&self.id) {
            if let Some(error) = slot.take_broken() {
                return Err(StreamError::Socket(error));
            }
            if let Some(code) = slot.was_reset() {
                return Err(StreamError::Reset(code));
            }
            if slot.is_complete() && slot.held() > 0 {
                return Ok(());
            }
        }
        match state.ended() {
            Some(error) => Err(StreamError::Tunnel(error.clone())),
            None => Ok(()),
        }
    }

    /// Waits for the head of the peer's answer.
    pub(super) async fn answer(&self) -> Result<Head, StreamError> {
        poll_fn(|cx| {
            let mut state = self.link.state();
            if let Some(slot) = state.streams.get_mut(&self.id) {
                if let Some(head) = slot.take_head() {
                    return Poll::Ready(Ok(head));
                }
                slot.remember(cx);
            }
            match self.check_in(&mut state) {
                Err(error) => Poll::Ready(Err(error)),
                Ok(()) => Poll::Pending,
            }
        })
        .await
    }

    /// Completes with the reason why the stream cannot go on.
    pub(super) async fn failed(&self) -> StreamError {
        poll_fn(|cx| {
            let mut state = self.link.state();
            if let Some(slot) = state.streams.get_mut(&self.id) {
                slot.remember(cx);
            }
            match self.check_in(&mut state) {
                Err(error) => Poll::Ready(error),
                Ok(()) => Poll::Pending,
            }
        })
        .await
    }

    /// Answers the peer's request; `end` when nothing follows. False when the peer is gone.
    pub(super) fn respond(&self, fields: &[(&str, &str)], end: bool) -> bool {
        let mut state = self.link.state();
        let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        let answered = state.ended().is_none() && state.http2.respond(self.id, fields, end);
        state.ask_flush();
        answered
    }

    /// What ends this stream when policy no longer allows it.
    #[must_use]
    pub fn revoker(&self) -> Revoker {
        Revoker {
            link: self.link.clone(),
            id: self.id,
        }
    }

    /// Sends the peer's content to `socket` from now on; `count` is told of the bytes it took.
    pub fn attach(&self, socket: Rc<Socket>, count: impl Fn(usize) + 'static) {
        let count = Box::new(count);
        self.link.state().attach(self.id, Sink { socket, count });
    }

    /// Has this task woken when the stream changes.
    pub fn remember(&self, cx: &Context<'_>) {
        if let Some(slot) = self.link.state().streams.get_mut(&self.id) {
            slot.remember(cx);
        }
    }

    /// Delivers what the application would not take at once; ready when the peer has ended the stream
    /// and all of it is delivered.
    ///
    /// # Errors
    /// [`StreamError`]
    pub fn poll_deliver(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.link.state();
        let state = &mut *state;
        loop {
            let Some(slot) = state.streams.get_mut(&self.id) else {
                return Poll::Ready(Err(TunnelError::Here.into()));
            };
            if slot.is_delivered() {
                return Poll::Ready(Ok(()));
            }
            self.check_in(state)?;
            let Some(slot) = state.streams.get_mut(&self.id) else {
                return Poll::Pending;
            };
            match slot.poll_backlog(cx) {
                Poll::Ready(Ok(0)) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(delivered)) => {
                    state.http2.release(self.id, delivered);
                    if !state.http2.control().is_empty() {
                        state.ask_flush();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Reads from `socket` into the tunnel, once. Ready with the number of bytes; with zero at the end
    /// of the application's stream, which the peer is then told of.
    ///
    /// # Errors
    /// [`StreamError`]
    pub fn poll_send_from(
        &self,
        cx: &mut Context<'_>,
        socket: &Socket,
        reading: &mut Reading,
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = self.link.state();
        self.check_in(&mut state)?;
        if state.ended().is_some() {
            return Poll::Pending;
        }
        let capacity = state.http2.capacity(self.id).min(LARGEST_READ);
        reading.stalled = !self.may_send(&mut state, capacity)?;
        if reading.stalled {
            return Poll::Pending;
        }
        let state = &mut *state;
        let mut places = state
            .out
            .places(capacity, reading.records.into(), &mut state.session)
            .map_err(TunnelError::from)?;
        let offered = places.bytes;
        let read = match reading.ended {
            true => Poll::Ready(Ok((0, true))),
            false => socket.poll_read_vectored(cx, places.slots(), offered),
        };
        let (read, ended) = match read {
            Poll::Pending => {
                state.out.settle();
                state.turns.done(self.id);
                state.pass_turn();
                return Poll::Pending;
            }
            Poll::Ready(read) => read.inspect_err(|_| state.out.settle())?,
        };
        reading.ended = ended;
        let State {
            out,
            session,
            http2,
            ..
        } = state;
        if read == 0 {
            out.settle();
            if let Some(header) = http2.data(self.id, 0, true) {
                // Room for a record is room for a frame without content.
                out.push(&header, session).map_err(TunnelError::from)?;
            }
        } else {
            reading.adapt(read, offered);
            out.commit(read, session, |length| http2.data(self.id, length, false))
                .map_err(TunnelError::from)?;
        }
        if reading.used {
            // Not for the first message: many connections carry only that one.
            busy_poll::note(read);
        }
        reading.used = true;
        if read >= WORTH_WRITING || !state.out.has_room() {
            self.link.flush(state);
        } else {
            state.ask_flush();
        }
        state.turns.done(self.id);
        state.pass_turn();
        Poll::Ready(Ok(read))
    }

    /// Whether there is room for what the application has to say. If not, the stream is woken when it
    /// may try again.
    fn may_send(&self, state: &mut State, capacity: usize) -> Result<bool, StreamError> {
        if capacity == 0 && state.http2.connection_capacity() > 0 {
            if let Some(slot) = state.streams.get_mut(&self.id) {
                slot.wait_for_window();
            }
            state.turns.done(self.id);
            state.pass_turn();
            return Ok(false);
        }
        if capacity == 0 || !state.turns.allow(self.id) {
            state.turns.wait(self.id);
            state.pass_turn();
            return Ok(false);
        }
        if !state.push_control().map_err(TunnelError::from)? || !state.out.has_room() {
            self.link.flush(state);
            if !state.out.has_room() {
                state.turns.wait(self.id);
                state.ask_flush();
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.state().forget(self.id, ErrorCode::CANCEL);
    }
}
