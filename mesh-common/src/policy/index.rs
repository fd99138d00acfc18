//! All policies, and those that apply to one workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Policy, Scope};

/// Every policy by name and by scope. What is looked up is always in the order of the names, so that a
/// decision does not depend on the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct PolicyIndex {
    by_key: BTreeMap<Arc<str>, Arc<Policy>>,
    global: Vec<Arc<Policy>>,
    by_namespace: BTreeMap<Arc<str>, Vec<Arc<Policy>>>,
}

impl PolicyIndex {
    /// Adds a policy, or replaces the one of the same name.
    pub fn upsert(&mut self, policy: Policy) {
        self.remove(&policy.key.clone());
        let policy = Arc::new(policy);
        let list = match policy.scope {
            Scope::Global => Some(&mut self.global),
            Scope::Namespace => Some(
                self.by_namespace
                    .entry(policy.namespace.clone())
                    .or_default(),
            ),
            Scope::Selector => None,
        };
        if let Some(list) = list {
            let at = list.partition_point(|other| other.key < policy.key);
            list.insert(at, policy.clone());
        }
        self.by_key.insert(policy.key.clone(), policy);
    }

    /// Removes the policy `namespace/name`, if it is there.
    pub fn remove(&mut self, key: &str) {
        let Some(policy) = self.by_key.remove(key) else {
            return;
        };
        match policy.scope {
            Scope::Global => self.global.retain(|other| other.key != policy.key),
            Scope::Namespace => {
                if let Some(list) = self.by_namespace.get_mut(&policy.namespace) {
                    list.retain(|other| other.key != policy.key);
                    if list.is_empty() {
                        self.by_namespace.remove(&policy.namespace);
                    }
                }
            }
            Scope::Selector => {}
        }
    }

    /// The policy `namespace/name`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Policy>> {
        self.by_key.get(key)
    }

    /// All policies, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.by_key.values()
    }

    /// The policies of a workload in `namespace` that lists those in `named`.
    #[must_use]
    pub fn of<'a>(&'a self, namespace: &str, named: &'a [Arc<str>]) -> PolicySet<'a> {
        PolicySet {
            global: &self.global,
            namespace: self.by_namespace.get(namespace).map_or(&[], Vec::as_slice),
            named,
            index: self,
        }
    }
}

/// The policies that apply to one workload. Making one costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct PolicySet<'a> {
    global: &'a [Arc<Policy>],
    namespace: &'a [Arc<Policy>],
    named: &'a [Arc<str>],
    index: &'a PolicyIndex,
}

impl<'a> PolicySet<'a> {
    /// The first policy that the workload names and that is not there.
    #[must_use]
    pub fn missing(&self) -> Option<&'a Arc<str>> {
        self.named.iter().find(|key| self.index.get(key).is_none())
    }

    /// Every policy that applies and is there: global ones, those of the namespace, those named.
    pub fn iter(&self) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        let index = self.index;
        let named = self.named.iter().filter_map(move |key| index.get(key));
        self.global.iter().chain(self.namespace).chain(named)
    }
}
