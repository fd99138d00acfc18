//! Who may say what it holds, and be told what it lacks for the first time: it takes much memory for a
//! short time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many at the same time.
const SLOTS: usize = 8;

/// Lets in a few nodes at a time and one stream of each, so that no node can take every slot. Clones
/// share the slots.
#[derive(Clone)]
pub(super) struct Admission(Arc<Slots>);

struct Slots {
    all: Arc<Semaphore>,
    /// Of the nodes that are let in or wait.
    nodes: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A slot; free again when dropped.
pub(super) struct Admitted {
    _of_all: OwnedSemaphorePermit,
    _of_node: OwnedSemaphorePermit,
}

impl Default for Admission {
    fn default() -> Self {
        Self(Arc::new(Slots {
            all: Arc::new(Semaphore::new(SLOTS)),
            nodes: Mutex::default(),
        }))
    }
}

impl Admission {
    /// Waits for a slot. None once there are none any more, which is never.
    pub(super) async fn admit(&self, node: &str) -> Option<Admitted> {
        let of_node = self.of(node).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.0.all).acquire_owned().await.ok()?;
        Some(Admitted {
            _of_all: of_all,
            _of_node: of_node,
        })
    }

    fn of(&self, node: &str) -> Arc<Semaphore> {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = nodes.get(node).and_then(Weak::upgrade) {
            return found;
        }
        nodes.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(Semaphore::new(1));
        nodes.insert(node.to_owned(), Arc::downgrade(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_node_takes_one_slot_however_many_streams_it_opens() {
        let admission = Admission::default();
        let first = admission.admit("greedy").now_or_never().flatten();
        assert!(first.is_some());
        assert!(admission.admit("greedy").now_or_never().is_none());
        let other = admission.admit("other").now_or_never().flatten();
        assert!(other.is_some());
        drop(first);
        assert!(admission.admit("greedy").now_or_never().is_some());
    }

    #[test]
    fn nodes_beyond_the_slots_wait_and_are_forgotten_when_they_go() {
        let admission = Admission::default();
        let admit = |number: usize| {
            let node = number.to_string();
            admission.admit(&node).now_or_never().flatten()
        };
        let held: Vec<_> = (0..SLOTS).map(admit).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(admit(SLOTS).is_none());
        drop(held);
        assert!(admit(SLOTS).is_some());
        assert!(admission.0.nodes.lock().unwrap().len() <= 1);
    }
}
