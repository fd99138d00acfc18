//! What happened, for people and machines: one access-log line and the standard metrics per connection.
//!
//! Stages hand records in and never get an answer back, so observing cannot change a verdict or
//! block a packet: a full log queue drops the line and counts it.

mod access_log;
mod decisions;
mod explainer;
mod line;
mod live;
mod metrics;
mod outcome;
mod parties;
mod record;
mod refused;
mod same;
mod series;
mod traffic;

pub use access_log::AccessLog;
pub use live::Open;
pub use metrics::{AgentMetrics, Metrics};
pub use outcome::{Flag, Outcome};
pub use parties::{Parties, Party, Reporter, Security};
pub use record::Record;
pub use traffic::Traffic;

use explainer::{Explainer, Unexplained};
use live::Live;
use std::sync::{Arc, OnceLock};

/// Where records go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    metrics: Arc<Metrics>,
    log: AccessLog,
    live: Live,
    /// None within when its thread cannot be started.
    explainer: Arc<OnceLock<Option<Explainer>>>,
}

impl Observer {
    /// Reports to `metrics` and `log`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, log: AccessLog) -> Self {
        Self {
            metrics,
            log,
            live: Live::default(),
            explainer: Arc::default(),
        }
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

    /// Waits until the access log is written, for 3 s at most.
    pub fn close(&self) {
        if let Some(Some(explainer)) = self.explainer.get() {
            explainer.close();
        }
        self.log.close();
    }

    /// Writes a line of the access log.
    fn write(&self, line: &str) {
        self.log.line(line);
    }

    /// Writes a line of the access log, with what the connection lacked if that can be found out in time.
    fn write_explained(&self, line: Unexplained) {
        let start = || {
            let started = Explainer::start(self.log.clone());
            let failed = |e| tracing::error!("denials are logged without an explanation: {e}");
            started.map_err(failed).ok()
        };
        let unexplained = match self.explainer.get_or_init(start) {
            Some(explainer) => explainer.explain(line).err(),
            None => Some(line),
        };
        if let Some(unexplained) = unexplained {
            self.write(&unexplained.line);
        }
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
