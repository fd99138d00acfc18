//! One client's subscription to one resource type, and what the client holds of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use mesh_common::proto::xds::DeltaDiscoveryRequest;

use super::message::Resources;
use crate::resources::{Resource, Table};

const WILDCARD: &str = "*";
/// A client may subscribe to so many names; one that needs more subscribes to everything.
const MAX_NAMES: usize = 10_000;

/// More names than are remembered.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyNames;

/// What a client lacks.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    pub(super) changed: Resources,
    /// How many resources there are in `changed`.
    pub(super) count: usize,
    pub(super) removed: Vec<Arc<str>>,
    /// When the first of the changes came, where that is known.
    pub(super) since: Option<Instant>,
}

impl Lacks {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.removed.is_empty()
    }
}

/// What the client was last told of a name it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Missing,
    /// The resource's own name (the client may have asked by an alias) and version.
    Version(Arc<str>, Box<str>),
}

/// What a client that wants everything holds.
#[derive(Clone, Debug)]
enum Holds {
    /// Nothing worth a mention, except names that may have to go.
    Nothing(Vec<Arc<str>>),
    /// Everything as of a generation, but for these names.
    All(u64, BTreeSet<Arc<str>>),
}

/// The subscription of one type. Made by the first request that names the type.
#[derive(Debug)]
pub(super) struct Subscription {
    wildcard: Option<Holds>,
    names: BTreeMap<Arc<str>, Told>,
}

impl Subscription {
    /// The first request: no name at all means everything. What the client says it holds is compared
    /// with `table`, of that generation, and forgotten.
    pub(super) fn new(
        request: &mut DeltaDiscoveryRequest,
        table: &Table,
        generation: u64,
    ) -> Result<Self, TooManyNames> {
        let initial = std::mem::take(&mut request.initial_resource_versions);
        let wants_all = request.resource_names_subscribe.is_empty()
            || request
                .resource_names_subscribe
                .iter()
                .any(|n| n == WILDCARD);
        let mut new = Self {
            wildcard: wants_all.then(|| held(&initial, table, generation)),
            names: BTreeMap::new(),
        };
        let before = new.wildcard.clone();
        new.take(request, |name| {
            let version = initial.get(name)?;
            Some(Told::Version(name.into(), version.as_str().into()))
        })?;
        // The names of the request do not undo what it says is held.
        if new.wildcard.is_some() {
            new.wildcard = before;
        }
        Ok(new)
    }

    /// Any later request; true when it asks for something that it must be answered for.
    pub(super) fn update(
        &mut self,
        request: &mut DeltaDiscoveryRequest,
    ) -> Result<bool, TooManyNames> {
        self.take(request, |_| None)
    }

    fn take(
        &mut self,
        request: &mut DeltaDiscoveryRequest,
        told: impl Fn(&str) -> Option<Told>,
    ) -> Result<bool, TooManyNames> {
        let mut asks = false;
        for name in request.resource_names_subscribe.drain(..) {
            asks = true;
            if name == WILDCARD {
                self.wildcard = Some(Holds::Nothing(Vec::new()));
                continue;
            }
            // A name that is subscribed to again is answered again.
            let told = told(&name).unwrap_or(Told::Nothing);
            self.names.insert(name.into(), told);
            if self.names.len() > MAX_NAMES {
                return Err(TooManyNames);
            }
        }
        for name in request.resource_names_unsubscribe.drain(..) {
            if name == WILDCARD {
                self.wildcard = None;
            } else {
                self.names.remove(name.as_str());
            }
        }
        Ok(asks)
    }

    /// For people: whether it wants everything, and how many names.
    pub(super) fn summary(&self) -> (bool, usize) {
        (self.wildcard.is_some(), self.names.len())
    }

    /// What the client lacks of `table`; `None` when that can no longer be told.
    pub(super) fn lacks(&self, table: &Table) -> Option<Lacks> {
        match (&self.wildcard, self.names.is_empty()) {
            (Some(Holds::Nothing(gone)), true) => Some(Lacks {
                changed: Resources::All(table.walk(), table.wire_len()),
                count: table.len(),
                removed: without(gone, table).collect(),
                since: None,
            }),
            (Some(Holds::All(generation, except)), true) if except.is_empty() => {
                let delta = table.since(*generation)?;
                Some(Lacks {
                    count: delta.changed.len(),
                    removed: delta.removed.clone(),
                    since: delta.at,
                    changed: Resources::Shared(delta),
                })
            }
            _ => self.own(table),
        }
    }

    /// What only this client lacks.
    fn own(&self, table: &Table) -> Option<Lacks> {
        let (mut changed, mut removed) = (BTreeMap::new(), BTreeSet::new());
        let mut since = None;
        let mut change = |resource: &Arc<Resource>| {
            changed.insert(Arc::clone(&resource.name), Arc::clone(resource));
        };
        match &self.wildcard {
            None => {}
            Some(Holds::Nothing(gone)) => {
                table.iter().for_each(&mut change);
                removed.extend(gone.iter().cloned());
            }
            Some(Holds::All(generation, except)) => {
                let delta = table.since(*generation)?;
                delta.changed.iter().for_each(&mut change);
                removed.extend(delta.removed.iter().cloned());
                since = delta.at;
                for name in except {
                    match table.named(name) {
                        Some(resource) => change(resource),
                        None => _ = removed.insert(Arc::clone(name)),
                    }
                }
            }
        }
        for (asked, told) in &self.names {
            match (table.get(asked), told) {
                (Some(resource), Told::Version(_, version)) if **version == *resource.version() => {
                }
                (Some(resource), Told::Version(old, _)) if *old != resource.name => {
                    // An address changed hands; the former owner may still be there.
                    match table.named(old) {
                        Some(former) => change(former),
                        None => _ = removed.insert(Arc::clone(old)),
                    }
                    change(resource);
                }
                (Some(resource), _) => change(resource),
                (None, Told::Missing) => {}
                (None, Told::Nothing) => _ = removed.insert(Arc::clone(asked)),
                (None, Told::Version(name, _)) => _ = removed.insert(Arc::clone(name)),
            }
        }
        removed.retain(|name| table.named(name).is_none());
        Some(Lacks {
            count: changed.len(),
            changed: Resources::List(changed.into_values().collect()),
            removed: removed.into_iter().collect(),
            since,
        })
    }

    /// The client now holds `table`, which is of that generation.
    pub(super) fn served(&mut self, table: &Table, generation: u64) {
        if let Some(holds) = &mut self.wildcard {
            *holds = Holds::All(generation, BTreeSet::new());
        }
        for (asked, told) in &mut self.names {
            *told = match table.get(asked) {
                Some(resource) => {
                    Told::Version(Arc::clone(&resource.name), resource.version().into())
                }
                None => Told::Missing,
            };
        }
    }
}

/// Those names that are not in the table.
fn without<'a>(
    names: impl IntoIterator<Item = &'a Arc<str>>,
    table: &Table,
) -> impl Iterator<Item = Arc<str>> {
    let names = names.into_iter();
    names.filter(|name| table.named(name).is_none()).cloned()
}

/// Compares what a client says it holds.
fn held(initial: &HashMap<String, String>, table: &Table, generation: u64) -> Holds {
    let gone = initial.keys().filter(|name| table.named(name).is_none());
    let gone: Vec<Arc<str>> = gone.map(|name| Arc::from(name.as_str())).collect();
    let differs = |resource: &&Arc<Resource>| {
        let version = initial.get(&*resource.name).map(String::as_str);
        version != Some(resource.version())
    };
    let differing = table.iter().filter(differs);
    let differing: Vec<_> = differing.map(|r| Arc::clone(&r.name)).collect();
    // A list of most names would cost more than what it saves.
    if initial.is_empty() || differing.len() > table.len() / 2 {
        return Holds::Nothing(gone);
    }
    Holds::All(generation, differing.into_iter().chain(gone).collect())
}
