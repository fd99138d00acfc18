//! Connections this agent has open to each workload, for the load balancer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Counts = Arc<Mutex<HashMap<Arc<str>, u32>>>;

/// Open connections by workload uid. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Loads(Counts);

/// One counted connection; uncounted when dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Counts,
    uid: Arc<str>,
}

impl Loads {
    pub(super) fn of(&self, uid: &str) -> u32 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn count(&self, uid: &Arc<str>) -> Counted {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(uid.clone()).or_default() += 1;
        Counted {
            counts: self.0.clone(),
            uid: uid.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_connection_is_uncounted_and_leaves_nothing() {
        let loads = Loads::default();
        let uid: Arc<str> = "a".into();
        let (first, second) = (loads.count(&uid), loads.count(&uid));
        assert_eq!(loads.of("a"), 2);
        drop(first);
        assert_eq!(loads.of("a"), 1);
        drop(second);
        assert_eq!(loads.of("a"), 0);
        assert!(loads.0.lock().unwrap().is_empty());
    }
}
