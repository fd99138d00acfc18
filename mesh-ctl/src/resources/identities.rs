//! Which service accounts have a pod on which node: what a node may ask certificates for.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::trie::Trie;

/// A service account with a pod on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The node.
    pub node: Arc<str>,
    /// The account's namespace.
    pub namespace: Arc<str>,
    /// The account.
    pub account: Arc<str>,
}

/// How many pods of an account came to a node, or went.
pub type IdentityChanges = BTreeMap<Identity, i64>;

/// All of them. A clone costs one pointer.
#[derive(Clone, Debug, Default)]
pub struct NodeIdentities {
    pods: Trie<(Arc<Identity>, i64)>,
    hasher: RandomState,
}

impl NodeIdentities {
    /// True when a pod of that account runs there.
    pub fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        let is_it = |(identity, _): &(Arc<Identity>, i64)| {
            (&*identity.node, &*identity.namespace, &*identity.account)
                == (node, namespace, account)
        };
        self.pods.of(self.hash(node, namespace, account)).any(is_it)
    }

    /// Every identity, with the number of its pods.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, i64)> {
        self.pods
            .iter()
            .map(|(identity, pods)| (&**identity, *pods))
    }

    pub(super) fn apply(&mut self, changes: IdentityChanges) {
        for (identity, change) in changes {
            let hash = self.hash(&identity.node, &identity.namespace, &identity.account);
            let same = |(known, _): &(Arc<Identity>, i64)| **known == identity;
            let (known, before) = match self.pods.of(hash).find(|item| same(item)) {
                Some((known, pods)) => (Arc::clone(known), *pods),
                None => (Arc::new(identity.clone()), 0),
            };
            match before + change {
                0 => _ = self.pods.remove(hash, same),
                pods => _ = self.pods.insert(hash, (known, pods), same),
            }
        }
    }

    fn hash(&self, node: &str, namespace: &str, account: &str) -> u64 {
        self.hasher.hash_one((node, namespace, account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_ends_with_its_last_pod() {
        let identity = Identity {
            node: "n".into(),
            namespace: "ns".into(),
            account: "sa".into(),
        };
        let mut identities = NodeIdentities::default();
        for (change, runs) in [(2, true), (-1, true), (-1, false), (1, true)] {
            identities.apply([(identity.clone(), change)].into());
            assert_eq!(identities.runs("n", "ns", "sa"), runs);
        }
        assert!(!identities.runs("n", "ns", "other"));
        assert_eq!(identities.iter().count(), 1);
    }
}
