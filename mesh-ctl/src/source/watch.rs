//! Follows a directory: each change that leaves it valid is handed on as a whole; one that does not
//! is reported once, and what was read before stays in force.

use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::directory::read_stable;
use super::scan::{self, Scan};
use super::{Problems, Sink};
use crate::metrics::Metrics;
use crate::model::Objects;

/// Writers that save several files in a row are waited for this long after each event.
const SETTLE: Duration = Duration::from_millis(100);
/// A directory in constant change is read at least this often.
const SETTLE_LIMIT: usize = 10;
/// Finds what the kernel does not announce: links that lead out of the directory, network mounts.
const RESCAN: Duration = Duration::from_secs(5);

/// The directory source.
pub struct DirectorySource {
    root: PathBuf,
    metrics: Metrics,
    /// What the last read saw.
    seen: Scan,
    /// What the last read complained about; empty after a good one.
    problems: Problems,
}

impl DirectorySource {
    /// Reads the directory for the first time; every problem is returned.
    pub fn open(root: PathBuf, metrics: Metrics) -> Result<(Self, Objects), Problems> {
        let (seen, objects) = read_stable(&root);
        let objects = objects?;
        metrics.read(true);
        if objects.is_empty() {
            tracing::warn!(directory = %root.display(), "there is no object in the directory yet");
        }
        Ok((
            Self {
                root,
                metrics,
                seen,
                problems: Problems::default(),
            },
            objects,
        ))
    }

    /// Follows the directory until `stop`.
    pub async fn run(mut self, mut sink: impl Sink, stop: CancellationToken) {
        let (events, mut changed) = mpsc::channel(1);
        let _watcher = self.watcher(events);
        let mut rescan = tokio::time::interval(RESCAN);
        rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let announced = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = changed.recv() => true,
                _ = rescan.tick() => false,
            };
            if announced {
                for _ in 0..SETTLE_LIMIT {
                    let again = tokio::time::timeout(SETTLE, changed.recv()).await;
                    if again.is_err() {
                        break;
                    }
                }
            }
            // Reading is quick but blocks; nothing else runs on this task.
            let read = tokio::task::spawn_blocking(move || {
                let objects = self.poll(announced);
                (self, objects)
            });
            let Ok((this, objects)) = read.await else {
                return;
            };
            self = this;
            if let Some(objects) = objects {
                sink.replace(objects);
            }
        }
    }

    /// Reads again if something may have changed; the objects when the read was good.
    pub(super) fn poll(&mut self, announced: bool) -> Option<Objects> {
        if !announced && scan::scan(&self.root).is_ok_and(|now| now == self.seen) {
            return None;
        }
        let (seen, result) = read_stable(&self.root);
        self.seen = seen;
        self.metrics.read(result.is_ok());
        match result {
            Ok(objects) => {
                if !self.problems.0.is_empty() {
                    tracing::info!(directory = %self.root.display(), "the directory is valid again");
                    self.problems = Problems::default();
                }
                Some(objects)
            }
            Err(problems) => {
                if problems != self.problems {
                    for problem in &problems.0 {
                        tracing::error!("{problem}; the last good state stays in force");
                    }
                    self.problems = problems;
                }
                None
            }
        }
    }

    fn watcher(&self, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let notify = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too; only changes matter. A full channel already says it.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = events.try_send(());
            }
        };
        let watching = notify::recommended_watcher(notify).and_then(|mut watcher| {
            watcher.watch(&self.root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watching {
            Ok(watcher) => Some(watcher),
            Err(e) => {
                tracing::warn!(
                    directory = %self.root.display(), error = %e, every = ?RESCAN,
                    "cannot watch the directory for changes; it is scanned instead"
                );
                None
            }
        }
    }
}
