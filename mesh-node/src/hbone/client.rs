//! One tunnel towards a peer, and the CONNECT streams opened on it.

use mesh_http2::ErrorCode;
use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;

use super::link::{End, Link};
use super::slot::Slot;
use super::stream::{Stream, StreamError};
use super::{Fields, STREAMS_OPENED, TunnelError, keepalive};
use crate::tls::{Authenticated, PeerError};

/// The peer answers a CONNECT within this time; it has a shorter one for its own upstream.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// No stream could be opened to the destination. Clone: one failed dial answers all who waited on it.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// TCP to the peer failed.
    #[error("cannot reach {0}: {1}")]
    Dial(std::net::SocketAddr, Arc<std::io::Error>),
    /// Mutual TLS failed.
    #[error("{0}")]
    Tls(Arc<PeerError>),
    /// The tunnel broke before the peer answered.
    #[error("tunnel failed: {0}")]
    Tunnel(#[from] TunnelError),
    /// The peer reset the stream instead of answering.
    #[error("the peer reset the stream before it answered: {0}")]
    Reset(ErrorCode),
    /// The tunnel may carry no stream from its first moment on.
    #[error(
        "the new tunnel carries no stream: a certificate of its ends has expired, or the peer is leaving"
    )]
    Unusable,
    /// The peer took too long.
    #[error("{0}")]
    Timeout(&'static str),
    /// The peer answered with something other than 200.
    #[error("the peer refused the stream with status {0}")]
    Refused(u16),
}

impl From<StreamError> for OpenError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Reset(code) => Self::Reset(code),
            StreamError::Tunnel(error) => Self::Tunnel(error),
            StreamError::Socket(error) => Self::Tunnel(error.into()),
        }
    }
}

impl OpenError {
    /// Whether another tunnel to the same peer may succeed where this one did not.
    #[must_use]
    pub fn tunnel_is_stale(&self) -> bool {
        match self {
            Self::Tunnel(_) => true,
            // Not worked on (RFC 9113, section 8.7): the peer leaves, or has no room.
            Self::Reset(code) => *code == ErrorCode::REFUSED_STREAM,
            _ => false,
        }
    }
}

/// An open tunnel. It ends when this value is dropped and its last stream is over.
#[derive(Debug)]
pub struct Tunnel {
    link: Link,
    streams: Cell<usize>,
    last_used: Cell<Instant>,
    retired: Cell<bool>,
    expires: SystemTime,
    group: &'static str,
}

impl Tunnel {
    /// Speaks HTTP/2 over an authenticated stream. The tunnel takes no new streams after `expires`,
    /// the end of the certificate that it was opened with, nor after the end of the peer's. Must run
    /// on a data-plane worker.
    ///
    /// # Errors
    /// When what the peer has sent already is wrong.
    pub fn establish(peer: Authenticated, expires: SystemTime) -> Result<Self, OpenError> {
        let expires = expires.min(peer.until);
        let (identity, group) = (peer.peer.clone(), peer.group);
        let link = Link::new(peer, End::Client)?;
        let driven = link.clone();
        tokio::task::spawn_local(async move {
            let why = tokio::select! {
                result = poll_fn(|cx| driven.poll_drive(cx)) => result.err(),
                why = keepalive::until_silent(&driven) => Some(why),
            };
            if let Some(why) = &why {
                tracing::debug!(peer = %identity, "tunnel ended: {why}");
            }
            driven.end(why);
        });
        Ok(Self {
            link,
            streams: Cell::new(0),
            last_used: Cell::new(Instant::now()),
            retired: Cell::new(false),
            expires,
            group,
        })
    }

    /// The TLS named group that its keys were agreed on with.
    pub(super) fn group(&self) -> &'static str {
        self.group
    }

    /// Takes a place for one more stream, if this tunnel may carry it.
    pub(super) fn reserve(&self) -> bool {
        let limit = STREAMS_OPENED.min(self.link.state().http2.max_streams());
        let free = self.usable() && self.streams.get() < limit;
        if free {
            self.streams.set(self.streams.get() + 1);
        }
        free
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        self.streams.set(self.streams.get() - 1);
        self.last_used.set(Instant::now());
    }

    pub(super) fn usable(&self) -> bool {
        let state = self.link.state();
        let alive = state.ended().is_none() && state.http2.accepts_streams();
        alive && !self.retired.get() && SystemTime::now() < self.expires
    }

    /// Takes no new streams from now on; those open go on.
    pub(super) fn retire(&self) {
        self.retired.set(true);
    }

    pub(super) fn unused_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.last_used.get())
    }

    /// Opens a stream and waits for the peer's 200.
    pub(super) async fn open(&self, request: &Fields) -> Result<Stream, OpenError> {
        let stream = {
            let mut state = self.link.state();
            if let Some(error) = state.ended() {
                return Err(OpenError::Tunnel(error.clone()));
            }
            let id = state
                .http2
                .request(request.iter())
                .ok_or(OpenError::Reset(ErrorCode::REFUSED_STREAM))?;
            state.streams.insert(id, Slot::default());
            state.ask_flush();
            Stream::new(self.link.clone(), id)
        };
        let head = tokio::time::timeout(ANSWER_WITHIN, stream.answer())
            .await
            .map_err(|_| OpenError::Timeout("the peer did not answer the CONNECT in 15 s"))??;
        match head.status() {
            Some(200) => Ok(stream),
            status => Err(OpenError::Refused(status.unwrap_or_default())),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.link.state().retire();
    }
}
