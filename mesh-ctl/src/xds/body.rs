//! The answer to a node as HTTP sees it: pieces of messages as they can be sent, then a status.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::Status;

use super::message::Message;
use crate::metrics::Metrics;

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    /// When the first of the changes in it came, where that is known.
    pub(super) since: Option<Instant>,
}

/// Sends what comes out of a channel; a status ends it.
pub(super) struct Body {
    items: mpsc::Receiver<Result<Item, Status>>,
    current: Option<Item>,
    ended: bool,
    metrics: Metrics,
}

impl Body {
    pub(super) fn new(items: mpsc::Receiver<Result<Item, Status>>, metrics: Metrics) -> Self {
        Self {
            items,
            current: None,
            ended: false,
            metrics,
        }
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.ended = true;
        // Nothing more is taken from the session.
        self.items.close();
        let mut trailers = HeaderMap::new();
        // A message that is no header value is left out by the status itself.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(item) = &mut self.current {
                if let Some(piece) = item.message.next_piece() {
                    self.metrics.sent(piece.len());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                if let Some(since) = item.since {
                    self.metrics.push_latency(since.elapsed());
                }
                self.current = None;
            }
            let frame = match self.items.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(item))) => {
                    self.current = Some(item);
                    continue;
                }
                Poll::Ready(Some(Err(status))) => self.end(&status),
                Poll::Ready(None) => self.end(&Status::ok("")),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
