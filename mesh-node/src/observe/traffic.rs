//! What a connection carried.

use prometheus_client::metrics::counter::Counter;
use std::sync::atomic::{AtomicU64, Ordering};

use super::series::Series;

/// The byte counts of one connection; the metrics move with them while it lives.
#[derive(Debug)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    sent_metric: Counter,
    received_metric: Counter,
}

impl Traffic {
    pub(super) fn new(series: &Series) -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent_metric: series.sent().clone(),
            received_metric: series.received().clone(),
        }
    }

    /// Counts bytes from the client to the server.
    pub fn from_client(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.received_metric.inc_by(bytes);
    }

    /// Counts bytes from the server to the client.
    pub fn to_client(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.sent_metric.inc_by(bytes);
    }

    /// Bytes from the client, and bytes to it.
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.received), count(&self.sent))
    }
}
