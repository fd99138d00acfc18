//! One tunnel towards a peer, and the CONNECT streams opened on it.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{
    CONNECTION_WINDOW, FRAME, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW, STREAMS_OPENED, Stream,
    keepalive,
};
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
    Tunnel(Arc<h2::Error>),
    /// The tunnel may carry no stream from its first moment on.
    #[error(
        "the new tunnel carries no stream: a certificate of its ends has expired, or the peer is leaving"
    )]
    Unusable,
    /// The peer took too long.
    #[error("{0}")]
    Timeout(&'static str),
    /// The request could not be written down; a defect.
    #[error("cannot build the CONNECT request: {0}")]
    Request(Arc<http::Error>),
    /// The peer answered with something other than 200.
    #[error("the peer refused the stream with status {0}")]
    Refused(StatusCode),
}

impl OpenError {
    /// Whether another tunnel to the same peer may succeed where this one did not.
    #[must_use]
    pub fn tunnel_is_stale(&self) -> bool {
        matches!(self, Self::Tunnel(_))
    }
}

/// An open tunnel.
#[derive(Debug)]
pub struct Tunnel {
    sender: SendRequest<Bytes>,
    streams: AtomicUsize,
    last_used: Mutex<Instant>,
    closed: CancellationToken,
    expires: SystemTime,
}

impl Tunnel {
    /// Speaks HTTP/2 over an authenticated stream. The tunnel takes no new streams after `expires`,
    /// the end of the certificate that it was opened with, nor after the end of the peer's.
    ///
    /// # Errors
    /// When the HTTP/2 preface cannot be sent.
    pub async fn establish(peer: Authenticated, expires: SystemTime) -> Result<Self, OpenError> {
        let expires = expires.min(peer.until);
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(peer.stream)
            .await
            .map_err(|e| OpenError::Tunnel(Arc::new(e)))?;
        let closed = CancellationToken::new();
        let pings = connection.ping_pong();
        let ended = closed.clone();
        tokio::spawn(async move {
            let _ended = ended.drop_guard();
            let silent = async {
                match pings {
                    Some(pings) => keepalive::until_silent(pings).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = connection => if let Err(e) = result {
                    tracing::debug!(peer = %peer.peer, "tunnel ended: {e}");
                },
                why = silent => tracing::info!(peer = %peer.peer, "tunnel closed: {why}"),
            }
        });
        Ok(Self {
            sender,
            streams: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            closed,
            expires,
        })
    }

    /// Takes a place for one more stream, if this tunnel may carry it.
    pub(super) fn reserve(&self) -> bool {
        let limit = STREAMS_OPENED.min(self.sender.current_max_send_streams());
        self.usable()
            && self
                .streams
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                    (n < limit).then_some(n + 1)
                })
                .is_ok()
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn usable(&self) -> bool {
        !self.closed.is_cancelled() && SystemTime::now() < self.expires
    }

    /// Takes no new streams from now on; those open go on.
    pub(super) fn retire(&self) {
        self.closed.cancel();
    }

    pub(super) fn unused_since(&self) -> Option<Instant> {
        (self.streams.load(Ordering::Acquire) == 0).then(|| {
            *self
                .last_used
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Opens a stream and waits for the peer's 200.
    pub(super) async fn open(&self, request: Request<()>) -> Result<Stream, OpenError> {
        let tunnel = |e| OpenError::Tunnel(Arc::new(e));
        let answer = async {
            let mut sender = self.sender.clone().ready().await.map_err(tunnel)?;
            let (response, send) = sender.send_request(request, false).map_err(tunnel)?;
            Ok((response.await.map_err(tunnel)?, send))
        };
        let (response, send) = tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .map_err(|_| OpenError::Timeout("the peer did not answer the CONNECT in 15 s"))??;
        if response.status() != StatusCode::OK {
            return Err(OpenError::Refused(response.status()));
        }
        Ok(Stream {
            send,
            recv: response.into_body(),
        })
    }
}
