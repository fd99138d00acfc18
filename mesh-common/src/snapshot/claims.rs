//! Who answers to an address or a name when more than one claims it.
//!
//! Clusters re-use addresses: the new pod may be announced before the old one is removed. The owner that
//! gained a key last answers to it; an update of an older owner does not take it back, and the removal
//! of one owner never takes the key from another.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// An owner and what it shows.
type Claim<V> = (Arc<str>, Arc<V>);

#[derive(Debug)]
pub(super) struct Claims<K, V>(HashMap<K, Vec<Claim<V>>>);

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone, V> Clone for Claims<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash, V> Claims<K, V> {
    /// The value of the owner that gained `key` last.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)?.last().map(|(_, value)| value)
    }

    /// `owner` claims `key`, or shows a new value for a key it has.
    pub(super) fn claim(&mut self, key: K, owner: &Arc<str>, value: &Arc<V>) {
        let claims = self.0.entry(key).or_default();
        match claims.iter_mut().find(|(other, _)| other == owner) {
            Some((_, shown)) => *shown = value.clone(),
            None => claims.push((owner.clone(), value.clone())),
        }
    }

    /// `owner` gives `key` up.
    pub(super) fn give_up<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, owner: &str)
    where
        K: Borrow<Q>,
    {
        if let Some(claims) = self.0.get_mut(key) {
            claims.retain(|(other, _)| &**other != owner);
            if claims.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
