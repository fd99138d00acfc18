//! The tunnels that are open now, and how their keys were agreed on.

use mesh_common::identity::SpiffeId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The identity at this end, and the TLS named group.
type Agreed = (SpiffeId, &'static str);

#[derive(Debug, Default)]
struct Counts {
    dialled: AtomicUsize,
    agreed: Mutex<BTreeMap<Agreed, usize>>,
}

impl Counts {
    fn agreed(&self) -> MutexGuard<'_, BTreeMap<Agreed, usize>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open tunnels of this agent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OpenTunnels(Arc<Counts>);

/// One of them; no longer open when dropped.
#[derive(Debug)]
pub struct OpenTunnel {
    counts: Arc<Counts>,
    agreed: Agreed,
    dialled: bool,
}

impl OpenTunnels {
    /// A tunnel that this end dialled as `identity`.
    #[must_use]
    pub fn dialled(&self, identity: &SpiffeId, group: &'static str) -> OpenTunnel {
        self.0.dialled.fetch_add(1, Ordering::Relaxed);
        self.open(identity, group, true)
    }

    /// A tunnel that a peer dialled to `identity`.
    #[must_use]
    pub fn accepted(&self, identity: &SpiffeId, group: &'static str) -> OpenTunnel {
        self.open(identity, group, false)
    }

    fn open(&self, identity: &SpiffeId, group: &'static str, dialled: bool) -> OpenTunnel {
        let agreed = (identity.clone(), group);
        *self.0.agreed().entry(agreed.clone()).or_default() += 1;
        OpenTunnel {
            counts: self.0.clone(),
            agreed,
            dialled,
        }
    }

    /// How many are open that this end dialled.
    #[must_use]
    pub fn outbound(&self) -> usize {
        self.0.dialled.load(Ordering::Relaxed)
    }

    /// The named groups that tunnels of `identity` agreed on, and how many of either direction did.
    #[must_use]
    pub fn groups(&self, identity: &SpiffeId) -> Vec<(&'static str, usize)> {
        let agreed = self.0.agreed();
        let of_it = agreed.iter().filter(|((whose, _), _)| whose == identity);
        of_it.map(|((_, group), count)| (*group, *count)).collect()
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        if self.dialled {
            self.counts.dialled.fetch_sub(1, Ordering::Relaxed);
        }
        let mut agreed = self.counts.agreed();
        if let Some(count) = agreed.get_mut(&self.agreed) {
            *count -= 1;
            if *count == 0 {
                agreed.remove(&self.agreed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_by_identity_and_group() {
        let tunnels = OpenTunnels::default();
        let id = |name: &str| -> SpiffeId {
            let uri = format!("spiffe://cluster.local/ns/shop/sa/{name}");
            uri.parse().unwrap()
        };
        let (web, db) = (id("web"), id("db"));
        let one = tunnels.dialled(&web, "X25519MLKEM768");
        let two = tunnels.accepted(&web, "X25519MLKEM768");
        let three = tunnels.accepted(&web, "X25519");
        assert_eq!(tunnels.outbound(), 1);
        assert_eq!(tunnels.groups(&web), [("X25519", 1), ("X25519MLKEM768", 2)]);
        assert!(tunnels.groups(&db).is_empty());
        drop((one, three));
        assert_eq!(tunnels.outbound(), 0);
        assert_eq!(tunnels.groups(&web), [("X25519MLKEM768", 1)]);
        drop(two);
        assert!(tunnels.0.agreed().is_empty());
    }
}
