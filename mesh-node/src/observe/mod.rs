//! What happened, for people and machines: one access-log line and the standard metrics per connection.
//!
//! Stages hand records in and never get an answer back, so observing cannot change a verdict or
//! block a packet: a full log queue drops the line and counts it.

mod access_log;
mod metrics;
mod record;
mod refused;
mod series;

pub use access_log::AccessLog;
pub use metrics::{AgentMetrics, Metrics};
pub use record::{Flag, Outcome, Parties, Party, Record, Reporter, Security, Traffic};

use std::sync::Arc;

/// Where records go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    metrics: Arc<Metrics>,
    log: AccessLog,
}

impl Observer {
    /// Reports to `metrics` and `log`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, log: AccessLog) -> Self {
        Self { metrics, log }
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

    /// Starts the record of one connection; it is written out when the record ends.
    #[must_use]
    pub fn begin(&self, parties: Parties) -> Record {
        Record::new(self.clone(), parties)
    }
}
