//! Peers that have not proven who they are yet: a bounded number for each pod.
//!
//! When there is no room, a newcomer displaces the peer that has waited longest among those of the
//! source address that has the most. A silent crowd so displaces itself, and a peer that finishes its
//! handshake in milliseconds gets through it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The waiting peers of one pod. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    room: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    arrivals: u64,
    /// By arrival.
    peers: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
}

/// A waiting peer's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    arrival: u64,
    displaced: oneshot::Receiver<()>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Admission {
    /// Nobody waits yet.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: room.max(1),
            waiting: Arc::default(),
        }
    }

    /// Takes a peer in, at the cost of another if need be.
    pub(super) fn admit(&self, source: IpAddr) -> Place {
        let (sender, displaced) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.peers.len() >= self.room
            && let Some(arrival) = waiting.least_missed()
        {
            // Dropping its sender tells it.
            waiting.remove(arrival);
        }
        let arrival = waiting.arrivals;
        waiting.arrivals += 1;
        waiting.peers.insert(arrival, (source, sender));
        waiting.by_source.entry(source).or_default().insert(arrival);
        drop(waiting);
        Place {
            arrival,
            displaced,
            waiting: self.waiting.clone(),
        }
    }
}

impl Waiting {
    /// The longest waiting peer of the source that has the most.
    fn least_missed(&self) -> Option<u64> {
        let busiest = self.by_source.values().max_by_key(|peers| peers.len())?;
        busiest.first().copied()
    }

    fn remove(&mut self, arrival: u64) {
        let Some((source, _)) = self.peers.remove(&arrival) else {
            return;
        };
        if let Some(peers) = self.by_source.get_mut(&source) {
            peers.remove(&arrival);
            if peers.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }
}

impl Place {
    /// Completes when the place was given to another.
    pub(super) async fn displaced(&mut self) {
        // Nothing is ever sent: the sender goes.
        let _ = (&mut self.displaced).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.waiting).remove(self.arrival);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn is_displaced(place: &mut Place) -> bool {
        place.displaced.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_crowd_displaces_itself_oldest_first() {
        let admission = Admission::new(3);
        let mut good = admission.admit(ip(1));
        let mut crowd: Vec<Place> = (0..10).map(|_| admission.admit(ip(2))).collect();
        assert!(!is_displaced(&mut good));
        let displaced: Vec<bool> = crowd.iter_mut().map(is_displaced).collect();
        assert_eq!(displaced, [[true; 8].as_slice(), &[false; 2]].concat());
        let mut another = admission.admit(ip(3));
        assert!(is_displaced(&mut crowd[8]) && !is_displaced(&mut another));
    }

    #[test]
    fn places_are_free_again() {
        let admission = Admission::new(2);
        let mut first = admission.admit(ip(1));
        drop(admission.admit(ip(1)));
        let _second = admission.admit(ip(1));
        assert!(!is_displaced(&mut first));
        drop(admission.admit(ip(1)));
        assert!(is_displaced(&mut first));
        drop(first);
        assert_eq!(lock(&admission.waiting).peers.len(), 1);
        assert_eq!(lock(&admission.waiting).by_source.len(), 1);
    }
}
