//! The exemptions in force: bounded, the oldest gives way.

use mesh_common::identity::SpiffeId;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bpf::{DirectRoute, MAX_EXEMPTIONS};

/// A destination to which a direct connect failed goes through the tunnel for so long.
const SHUN_FOR: Duration = Duration::from_secs(30);

/// A client, by its namespace's cookie, and where it connects to.
pub(super) type Key = (u64, SocketAddr);

/// One exemption.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) route: DirectRoute,
    pub(super) identity: SpiffeId,
}

/// The exemptions that the kernel has, and the destinations that shall have none for a while.
#[derive(Debug, Default)]
pub(super) struct Grants {
    by_key: HashMap<Key, (u64, Granted)>,
    by_age: BTreeMap<u64, Key>,
    next: u64,
    shunned: HashMap<Key, Instant>,
}

impl Grants {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Granted> {
        self.by_key.values().map(|(_, granted)| granted)
    }

    /// Whether there is one already, or shall be none for now.
    pub(super) fn is_settled(&self, key: &Key, now: Instant) -> bool {
        self.by_key.contains_key(key) || self.shunned.get(key).is_some_and(|until| *until > now)
    }

    /// The one that has to go before another can come.
    pub(super) fn oldest_if_full(&self) -> Option<DirectRoute> {
        if self.by_key.len() < MAX_EXEMPTIONS as usize {
            return None;
        }
        let (_, key) = self.by_age.first_key_value()?;
        self.by_key.get(key).map(|(_, granted)| granted.route)
    }

    pub(super) fn insert(&mut self, granted: Granted) {
        let key = key(&granted.route);
        self.remove(&key);
        self.by_age.insert(self.next, key);
        self.by_key.insert(key, (self.next, granted));
        self.next += 1;
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Granted> {
        let (age, granted) = self.by_key.remove(key)?;
        self.by_age.remove(&age);
        Some(granted)
    }

    /// Grants nothing for this destination for a while.
    pub(super) fn shun(&mut self, key: Key, now: Instant) {
        self.shunned.retain(|_, until| *until > now);
        if self.shunned.len() < MAX_EXEMPTIONS as usize {
            self.shunned.insert(key, now + SHUN_FOR);
        }
    }
}

pub(super) fn key(route: &DirectRoute) -> Key {
    (route.client, route.destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(client: u64) -> Granted {
        Granted {
            route: DirectRoute {
                client,
                source: "10.0.0.1".parse().unwrap(),
                server: 1,
                destination: "10.0.0.2:80".parse().unwrap(),
            },
            identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        }
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut grants = Grants::default();
        for client in 0..u64::from(MAX_EXEMPTIONS) {
            assert!(grants.oldest_if_full().is_none());
            grants.insert(granted(client));
        }
        // Granted again, it is the newest.
        grants.insert(granted(0));
        let oldest = grants.oldest_if_full().unwrap();
        assert_eq!(oldest.client, 1);
        assert!(grants.remove(&key(&oldest)).is_some());
        assert!(grants.remove(&key(&oldest)).is_none());
        assert!(grants.oldest_if_full().is_none());
        assert_eq!(grants.iter().count(), grants.len());
    }

    #[test]
    fn what_failed_is_left_alone_for_a_while() {
        let mut grants = Grants::default();
        let (now, key) = (Instant::now(), key(&granted(7).route));
        assert!(!grants.is_settled(&key, now));
        grants.shun(key, now);
        assert!(grants.is_settled(&key, now));
        assert!(!grants.is_settled(&key, now + SHUN_FOR));
        grants.insert(granted(7));
        assert!(grants.is_settled(&key, now + SHUN_FOR));
    }
}
