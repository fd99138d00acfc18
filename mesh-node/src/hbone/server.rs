//! Accepts CONNECT streams on an authenticated connection until the peer leaves or we drain.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderValue, Request, Response, StatusCode};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

use super::{
    BadRequest, CONNECTION_WINDOW, ConnectRequest, FRAME, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW,
    STREAMS_ACCEPTED, Stream, keepalive,
};
use crate::drain::Drain;
use crate::tls::Authenticated;

/// The peer sends its HTTP/2 preface within this time.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);

/// Streams of one tunnel that are worked on. More than may be open: work may outlive its stream a
/// little, but a peer that resets and opens anew does not pile it up.
const STREAMS_SERVED: usize = 2 * STREAMS_ACCEPTED as usize;

/// A stream that a peer asks for; answered exactly once.
#[derive(Debug)]
pub struct Incoming {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

impl Incoming {
    /// What the peer asks for.
    ///
    /// # Errors
    /// [`BadRequest`], to be answered by [`Incoming::refuse`] with 400.
    pub fn target(&self) -> Result<ConnectRequest, BadRequest> {
        ConnectRequest::from_http(&self.request)
    }

    /// Answers 200: the upstream connection stands.
    ///
    /// # Errors
    /// When the peer is gone already.
    pub fn accept(mut self, baggage: Option<HeaderValue>) -> Result<Stream, h2::Error> {
        let mut response = Response::new(());
        if let Some(value) = baggage {
            response.headers_mut().insert("baggage", value);
        }
        let send = self.respond.send_response(response, false)?;
        Ok(Stream {
            send,
            recv: self.request.into_body(),
        })
    }

    /// Completes when the peer resets the stream, or leaves; says which. Only before an answer.
    pub async fn given_up(&mut self) -> String {
        match poll_fn(|cx| self.respond.poll_reset(cx)).await {
            Ok(reason) => format!("it reset the stream: {reason}"),
            Err(e) => e.to_string(),
        }
    }

    /// Answers with an error status and ends the stream.
    pub fn refuse(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if let Err(e) = self.respond.send_response(response, true) {
            tracing::debug!("peer left before it was refused with {status}: {e}");
        }
    }
}

/// Serves `peer` until it leaves; each CONNECT runs as a task of its own made by `handle`. Once the
/// peer's certificate has expired, open streams go on and new ones are refused: it has to prove again
/// who it is.
///
/// # Errors
/// When the peer does not speak HTTP/2, breaks its rules or falls silent.
pub async fn serve<F>(
    peer: Authenticated,
    drain: &Drain,
    handle: impl Fn(Incoming) -> F,
) -> Result<(), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let until = peer.until;
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS_ACCEPTED)
        .handshake(peer.stream);
    let mut connection = tokio::time::timeout(PREFACE_WITHIN, handshake)
        .await
        .map_err(|_| "no HTTP/2 preface within 10 s".to_owned())?
        .map_err(|e| format!("HTTP/2 handshake: {e}"))?;
    let pings = connection.ping_pong();
    let silent = async {
        match pings {
            Some(pings) => keepalive::until_silent(pings).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(silent);
    let served = Arc::new(Semaphore::new(STREAMS_SERVED));
    let expiry = until.duration_since(SystemTime::now());
    let expiry = tokio::time::sleep(expiry.unwrap_or_default());
    tokio::pin!(expiry);
    let (mut leaving, mut expired) = (false, false);
    loop {
        tokio::select! {
            next = connection.accept() => match next {
                // A GOAWAY alone would not do: the peer decides when it has seen it.
                Some(Ok((_, mut respond))) if SystemTime::now() >= until => {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                Some(Ok((request, mut respond))) => match served.clone().try_acquire_owned() {
                    Ok(place) => {
                        let work = handle(Incoming { request, respond });
                        tokio::spawn(async move {
                            work.await;
                            drop(place);
                        });
                    }
                    Err(_) => respond.send_reset(Reason::REFUSED_STREAM),
                },
                Some(Err(e)) => return Err(format!("HTTP/2: {e}")),
                None => return Ok(()),
            },
            () = drain.started(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut expiry, if !expired => {
                expired = true;
                if !leaving {
                    leaving = true;
                    connection.graceful_shutdown();
                }
            }
            () = drain.expired() => return Ok(()),
            why = &mut silent => return Err(why.into()),
        }
    }
}
