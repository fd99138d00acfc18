//! Who is refused again and again is not listened to for a while.
//!
//! Each caller has an allowance of refusals that fills up again with time. Once it is used up, every
//! request of that caller is turned away unread. Memory is bounded: when the table is full, the caller
//! with the most of its allowance left is forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many refusals in a row: a node that starts with all its pods at once, before the controller has
/// heard of them, is refused often and rightly.
const ALLOWANCE: f64 = 100.0;
/// Refusals that are forgiven each second.
const FORGIVEN: f64 = 2.0;
/// How long nothing is answered.
pub(super) const BLOCKED: Duration = Duration::from_secs(30);
/// Callers remembered.
const CALLERS: usize = 4096;

/// Who is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A caller whose token was good.
    Caller(String),
    /// An address from which no good token came; of IPv6, the network that one host has.
    Peer(IpAddr),
}

impl Key {
    pub(super) fn peer(address: IpAddr) -> Self {
        Self::Peer(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

#[derive(Clone, Copy)]
struct Entry {
    left: f64,
    at: Instant,
    blocked: Option<Instant>,
}

impl Entry {
    fn left(&self, now: Instant) -> f64 {
        let forgiven = now.duration_since(self.at).as_secs_f64() * FORGIVEN;
        (self.left + forgiven).min(ALLOWANCE)
    }
}

/// The refusals of late.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Key, Entry>>);

impl Refusals {
    /// How long the caller is still turned away; `None` when it is heard.
    pub(super) fn blocked(&self, key: &Key, now: Instant) -> Option<Duration> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = table.get(key)?.blocked?;
        (until > now).then(|| until - now)
    }

    /// Counts a refusal; true when it uses up the allowance.
    pub(super) fn refuse(&self, key: Key, now: Instant) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= CALLERS && !table.contains_key(&key) {
            forget(&mut table, now);
        }
        let entry = table.entry(key).or_insert(Entry {
            left: ALLOWANCE,
            at: now,
            blocked: None,
        });
        if entry.blocked.is_some_and(|until| until > now) {
            return false;
        }
        entry.left = entry.left(now) - 1.0;
        entry.at = now;
        let used_up = entry.left < 1.0;
        entry.blocked = used_up.then(|| now + BLOCKED);
        used_up
    }
}

fn forget(table: &mut HashMap<Key, Entry>, now: Instant) {
    table.retain(|_, entry| {
        entry.left(now) < ALLOWANCE || entry.blocked.is_some_and(|until| until > now)
    });
    if table.len() < CALLERS {
        return;
    }
    let most = table
        .iter()
        .max_by(|(_, a), (_, b)| a.left(now).total_cmp(&b.left(now)))
        .map(|(key, _)| key.clone());
    if let Some(key) = most {
        table.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(name: &str) -> Key {
        Key::Caller(name.into())
    }

    /// Refuses until the allowance is used up; how often that was.
    fn exhaust(refusals: &Refusals, key: &Key, now: Instant) -> usize {
        (1..1000)
            .find(|_| refusals.refuse(key.clone(), now))
            .unwrap()
    }

    #[test]
    fn many_refusals_silence_their_author_alone_and_for_a_while() {
        let refusals = Refusals::default();
        let now = Instant::now();
        assert_eq!(exhaust(&refusals, &node("a"), now), 100);
        assert_eq!(refusals.blocked(&node("a"), now), Some(BLOCKED));
        assert_eq!(refusals.blocked(&node("b"), now), None);
        assert!(!refusals.refuse(node("a"), now + SECOND), "it is said once");
        let after = now + BLOCKED;
        assert_eq!(refusals.blocked(&node("a"), after), None);
        // What was forgiven meanwhile: two each second.
        assert_eq!(exhaust(&refusals, &node("a"), after), 60);
    }

    #[test]
    fn refusals_now_and_then_are_forgiven() {
        let refusals = Refusals::default();
        let now = Instant::now();
        for second in 0..1000 {
            assert!(!refusals.refuse(node("a"), now + second * SECOND));
        }
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_worst() {
        let refusals = Refusals::default();
        let now = Instant::now();
        exhaust(&refusals, &node("worst"), now);
        for i in 0..2 * CALLERS {
            refusals.refuse(node(&i.to_string()), now);
        }
        assert_eq!(refusals.0.lock().unwrap().len(), CALLERS);
        assert!(refusals.blocked(&node("worst"), now).is_some());
    }

    #[test]
    fn a_host_of_many_addresses_is_one_peer() {
        let peer = |text: &str| Key::peer(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
    }
}
