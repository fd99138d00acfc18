//! Which selectors may match an object: found by its labels, without a look at the others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::pod::LabelSet;
use crate::model::{Labels, ObjectName};

/// A scope (a namespace, or empty for all of them), and one label of the selector.
type Key = (Arc<str>, Arc<str>, Arc<str>);

/// Objects by their selector. Each is filed under one label of it, which whatever it selects has too.
#[derive(Debug, Default)]
pub(crate) struct Selectors(HashMap<Key, BTreeSet<ObjectName>>);

impl Selectors {
    /// Files an object; an empty selector selects nothing.
    pub(super) fn insert(&mut self, scope: &str, selector: &Labels, name: &ObjectName) {
        if let Some(key) = key(scope, selector) {
            self.0.entry(key).or_default().insert(name.clone());
        }
    }

    pub(super) fn remove(&mut self, scope: &str, selector: &Labels, name: &ObjectName) {
        let Some(key) = key(scope, selector) else {
            return;
        };
        if let Some(names) = self.0.get_mut(&key) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Those whose filed label is among these.
    pub(crate) fn candidates(&self, scope: &str, labels: &LabelSet) -> BTreeSet<&ObjectName> {
        if self.0.is_empty() {
            return BTreeSet::new();
        }
        let scope: Arc<str> = scope.into();
        let found = labels.iter().filter_map(|(key, value)| {
            let key = (Arc::clone(&scope), Arc::clone(key), Arc::clone(value));
            self.0.get(&key)
        });
        found.flatten().collect()
    }
}

fn key(scope: &str, selector: &Labels) -> Option<Key> {
    let (key, value) = selector.iter().next()?;
    Some((scope.into(), key.as_str().into(), value.as_str().into()))
}
