//! Accepts CONNECT streams on an authenticated connection until the peer leaves or we drain.

use mesh_http2::{ErrorCode, Head};
use std::future::{Future, poll_fn};
use std::sync::Arc;

use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

use super::link::{End, Link};
use super::stream::{Stream, StreamError};
use super::{BadRequest, ConnectRequest, STREAMS_ACCEPTED, TunnelError, keepalive};
use crate::drain::Drain;
use crate::tls::Authenticated;

/// The peer sends its HTTP/2 preface within this time.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);

/// Streams of one tunnel that are worked on. More than may be open: work may outlive its stream a
/// little, but a peer that resets and opens anew does not pile it up.
const STREAMS_SERVED: usize = 2 * STREAMS_ACCEPTED as usize;

/// A stream that a peer asks for; answered once, or reset when dropped.
#[derive(Debug)]
pub struct Incoming {
    head: Head,
    stream: Stream,
}

impl Incoming {
    /// What the peer asks for.
    ///
    /// # Errors
    /// [`BadRequest`], to be answered by [`Incoming::refuse`] with 400.
    pub fn target(&self) -> Result<ConnectRequest, BadRequest> {
        ConnectRequest::from_head(&self.head)
    }

    /// Answers 200: the upstream connection stands. None when the peer is gone already.
    #[must_use]
    pub fn accept(self, baggage: Option<&str>) -> Option<Stream> {
        let fields = [(":status", "200"), ("baggage", baggage.unwrap_or_default())];
        let stated = if baggage.is_some() { 2 } else { 1 };
        self.stream
            .respond(fields.get(..stated).unwrap_or_default(), false)
            .then_some(self.stream)
    }

    /// Completes when the peer resets the stream, or leaves; says which. Only before an answer.
    pub async fn given_up(&self) -> StreamError {
        self.stream.failed().await
    }

    /// Answers with an error status and ends the stream.
    pub fn refuse(self, status: u16) {
        if !self
            .stream
            .respond(&[(":status", &status.to_string())], true)
        {
            tracing::debug!("the peer left before it was refused with {status}");
        }
    }
}

/// Serves `peer` until it leaves; each CONNECT runs as a task of its own made by `handle`. Once the
/// peer's certificate has expired, open streams go on and new ones are refused: it has to prove again
/// who it is. Must run on a data-plane worker.
///
/// # Errors
/// When the peer does not speak HTTP/2, breaks its rules or falls silent.
pub async fn serve<F>(
    peer: Authenticated,
    drain: &Drain,
    handle: impl Fn(Incoming) -> F,
) -> Result<(), TunnelError>
where
    F: Future<Output = ()> + 'static,
{
    let until = peer.until;
    let link = Link::new(peer, End::Server)?;
    let served = Arc::new(Semaphore::new(STREAMS_SERVED));
    let accept = |id, head| {
        let stream = Stream::new(link.clone(), id);
        // A GOAWAY alone would not do: the peer decides when it has seen it.
        let place = (SystemTime::now() < until).then(|| served.clone().try_acquire_owned());
        let Some(Ok(place)) = place else {
            return link.state().forget(id, ErrorCode::REFUSED_STREAM);
        };
        let work = handle(Incoming { head, stream });
        tokio::task::spawn_local(async move {
            work.await;
            drop(place);
        });
    };
    let drive = poll_fn(|cx| {
        let driven = link.poll_drive(cx);
        loop {
            let request = link.state().next_request();
            match request {
                Some((id, head)) => accept(id, head),
                None => return driven,
            }
        }
    });
    let leave = async {
        let expiry = until.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = drain.started() => {}
            () = tokio::time::sleep(expiry) => {}
        }
        link.state().http2.leave();
        link.ask_flush();
        std::future::pending::<()>().await;
    };
    let no_preface = async {
        tokio::time::sleep(PREFACE_WITHIN).await;
        if link.state().http2.is_established() {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = drive => result,
        () = leave => Ok(()),
        () = drain.expired() => Ok(()),
        () = no_preface => Err(TunnelError::NoPreface),
        why = keepalive::until_silent(&link) => Err(why),
    };
    link.end(result.as_ref().err().cloned());
    match result {
        // It had nothing open: that is how a peer leaves.
        Err(TunnelError::Closed) => Ok(()),
        result => result,
    }
}
