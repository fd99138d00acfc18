//! What happened, for people and machines: one access-log line and the standard metrics per connection.
//!
//! Stages hand records in and never get an answer back, so observing cannot change a verdict or
//! block a packet: a full log queue drops the line and counts it.

mod access_log;
mod line;
mod live;
mod metrics;
mod outcome;
mod parties;
mod record;
mod series;
mod traffic;

pub use access_log::AccessLog;
pub use live::Open;
pub use metrics::{AgentMetrics, Metrics};
pub use outcome::{Flag, Outcome};
pub use parties::{Parties, Party, Reporter, Security};
pub use record::Record;
pub use traffic::Traffic;

use live::Live;
use std::sync::Arc;

/// Where records go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    metrics: Arc<Metrics>,
    log: AccessLog,
    live: Live,
}

impl Observer {
    /// Reports to `metrics` and `log`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, log: AccessLog) -> Self {
        let live = Live::default();
        Self { metrics, log, live }
    }

    /// The metrics behind this observer.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Access-log lines dropped since start.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.log.dropped()
    }

    /// Waits until the access log is written, for 2 s at most.
    pub fn close(&self) {
        self.log.close();
    }

    /// The connections that are open now, at either end; oldest first.
    #[must_use]
    pub fn open_connections(&self) -> Vec<Open> {
        self.live.list()
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.live.len()
    }

    /// Starts the record of one connection; it is written out when the record ends.
    #[must_use]
    pub fn begin(&self, parties: Parties) -> Record {
        Record::new(self.clone(), parties)
    }
}
