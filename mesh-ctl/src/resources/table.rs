//! All resources of one kind at one moment.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::Resource;
use super::log::Log;
use super::trie::{Trie, Walk};

/// A larger delta is not copied together for all clients: each copies a piece of it at a time.
const SHARED: usize = 1 << 20;

/// What becomes of names: a resource, or nothing.
pub type Updates = BTreeMap<Arc<str>, Option<Resource>>;

/// Immutable once published; the next one shares most of it.
#[derive(Debug, Default)]
pub struct Table {
    resources: Trie<Arc<Resource>>,
    aliases: Trie<Arc<Resource>>,
    hasher: RandomState,
    /// Bytes of all entries.
    wire: u64,
    log: Log,
    /// What changed since a generation, for all clients that were served it.
    deltas: Mutex<BTreeMap<u64, Arc<Delta>>>,
}

/// What changed between two generations.
#[derive(Debug)]
pub struct Delta {
    /// New and changed, by name.
    pub changed: Vec<Arc<Resource>>,
    /// Gone, by name.
    pub removed: Vec<Arc<str>>,
    /// When the first of the changes came; `None` when there is none.
    pub at: Option<Instant>,
    encoded: OnceLock<Option<Bytes>>,
}

impl Delta {
    /// The entries of all changed resources, encoded once; `None` when they are too large for that.
    pub fn encoded(&self) -> Option<&Bytes> {
        let encode = || {
            let length: usize = self.changed.iter().map(|r| r.wire().len()).sum();
            (length <= SHARED).then(|| {
                let mut all = Vec::with_capacity(length);
                for resource in &self.changed {
                    all.extend_from_slice(resource.wire());
                }
                all.into()
            })
        };
        self.encoded.get_or_init(encode).as_ref()
    }
}

impl Table {
    /// The resource of that name, or else with that alias.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let hash = self.hash(name);
        let by_name = || self.resources.of(hash).find(|r| *r.name == *name);
        let is_it = |r: &&Arc<Resource>| r.aliases().any(|alias| alias == name);
        // An alias that several have is of the one whose name comes last.
        let by_alias = || {
            let all = self.aliases.of(hash).filter(is_it);
            all.max_by(|a, b| a.name.cmp(&b.name))
        };
        by_name().or_else(by_alias)
    }

    /// All resources, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// All resources by name.
    pub fn sorted(&self) -> Vec<&Arc<Resource>> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All resources, in no order, as they are now.
    pub(crate) fn walk(&self) -> Walk<Arc<Resource>> {
        self.resources.walk()
    }

    /// Bytes of the entries of all resources.
    pub fn wire_len(&self) -> u64 {
        self.wire
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// What changed after that generation; `None` when it is too long ago to tell. Whoever asks for the
    /// same gets the same.
    pub fn since(&self, generation: u64) -> Option<Arc<Delta>> {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(delta) = deltas.get(&generation) {
            return Some(Arc::clone(delta));
        }
        let since = self.log.since(generation)?;
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for name in since.names {
            match self.named(&name) {
                Some(resource) => changed.push(Arc::clone(resource)),
                None => removed.push(name),
            }
        }
        let delta = Arc::new(Delta {
            changed,
            removed,
            at: since.at,
            encoded: OnceLock::new(),
        });
        deltas.insert(generation, Arc::clone(&delta));
        Some(delta)
    }

    /// The resource of that very name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources
            .of(self.hash(name))
            .find(|r| *r.name == *name)
    }

    /// The table after these updates; `None` when nothing is different. The first generation is not
    /// remembered as a change: nobody holds what was before.
    pub(super) fn next(&self, generation: u64, at: Instant, updates: Updates) -> Option<Self> {
        let mut next = self.derive();
        let mut names = Vec::new();
        for (name, update) in updates {
            if next.update(&name, update) {
                names.push(name);
            }
        }
        if generation == 1 {
            next.log = Log::begin(1);
        } else if !names.is_empty() {
            let live = next.len();
            next.log.push(generation, at, names, live);
        } else {
            return None;
        }
        Some(next)
    }

    /// The same again, in constant time.
    pub(super) fn derive(&self) -> Self {
        Self {
            resources: self.resources.clone(),
            aliases: self.aliases.clone(),
            hasher: self.hasher.clone(),
            wire: self.wire,
            log: self.log.clone(),
            deltas: Mutex::default(),
        }
    }

    /// False when there is no difference.
    fn update(&mut self, name: &Arc<str>, update: Option<Resource>) -> bool {
        let hash = self.hash(name);
        let before = self.named(name).cloned();
        if before.as_deref() == update.as_ref() {
            return false;
        }
        if let Some(before) = &before {
            self.wire -= before.wire().len() as u64;
            for alias in before.aliases() {
                let hash = self.hash(alias);
                self.aliases.remove(hash, |r| r.name == *name);
            }
        }
        let Some(resource) = update else {
            self.resources.remove(hash, |r| r.name == *name);
            return true;
        };
        let resource = Arc::new(resource);
        self.wire += resource.wire().len() as u64;
        for alias in resource.aliases() {
            let hash = self.hash(alias);
            self.aliases
                .insert(hash, Arc::clone(&resource), |r| r.name == *name);
        }
        self.resources.insert(hash, resource, |r| r.name == *name);
        true
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}
