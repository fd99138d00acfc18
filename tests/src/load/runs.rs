//! The streams that the server receives, by the run that they belong to.

use super::interval::Received;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All runs of a server.
#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<HashMap<u64, Vec<Received>>>>);

/// A stream of a run, until it is dropped.
pub(super) struct Member {
    runs: Runs,
    run: u64,
    /// What it has received.
    pub(super) received: Received,
}

impl Runs {
    /// A new stream of this run.
    pub(super) fn join(&self, run: u64) -> Member {
        let received = Received::default();
        self.lock().entry(run).or_default().push(received.clone());
        Member {
            runs: self.clone(),
            run,
            received,
        }
    }

    /// The streams of this run that are open now.
    pub(super) fn streams(&self, run: u64) -> Vec<Received> {
        self.lock().get(&run).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Received>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut runs = self.runs.lock();
        if let Some(streams) = runs.get_mut(&self.run) {
            streams.retain(|other| !Arc::ptr_eq(other, &self.received));
            if streams.is_empty() {
                runs.remove(&self.run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_streams_that_joined_and_are_still_there() {
        let runs = Runs::default();
        let first = runs.join(1);
        let second = runs.join(1);
        let _other = runs.join(2);
        assert_eq!(runs.streams(1).len(), 2);
        drop(first);
        assert!(Arc::ptr_eq(&runs.streams(1)[0], &second.received));
        drop(second);
        assert!(runs.streams(1).is_empty());
        assert_eq!(runs.lock().len(), 1);
    }
}
