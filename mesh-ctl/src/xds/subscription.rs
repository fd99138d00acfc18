//! One client's subscription to one resource type, and what the client holds of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_common::proto::xds::DeltaDiscoveryRequest;

use crate::resources::{Resource, Table};

const WILDCARD: &str = "*";

/// What a client lacks.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) changed: BTreeMap<Arc<str>, Arc<Resource>>,
    pub(super) removed: BTreeSet<Arc<str>>,
}

impl Delta {
    fn change(&mut self, resource: &Arc<Resource>) {
        self.changed.insert(resource.name.clone(), resource.clone());
    }

    fn remove(&mut self, name: &Arc<str>) {
        self.removed.insert(name.clone());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// What the client was last told of a name it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Missing,
    /// The resource's own name (the client may have asked by an alias) and version.
    Version(Arc<str>, Arc<str>),
}

/// What a client that wants everything holds.
#[derive(Debug)]
enum Holds {
    /// What it said when it connected.
    Initial(HashMap<String, String>),
    /// Everything, as of that generation.
    Generation(u64),
}

/// The subscription of one type. Made by the first request that names the type.
#[derive(Debug)]
pub(super) struct Subscription {
    wildcard: Option<Holds>,
    names: BTreeMap<Arc<str>, Told>,
    initial: HashMap<String, String>,
}

impl Subscription {
    /// The first request: no name at all means everything.
    pub(super) fn new(request: &mut DeltaDiscoveryRequest) -> Self {
        let initial = std::mem::take(&mut request.initial_resource_versions);
        let mut new = Self {
            wildcard: None,
            names: BTreeMap::new(),
            initial,
        };
        if request.resource_names_subscribe.is_empty() {
            new.subscribe_all();
        }
        new.update(request);
        new
    }

    /// Any request; true when it asks for something that it must be answered for.
    pub(super) fn update(&mut self, request: &mut DeltaDiscoveryRequest) -> bool {
        let mut asks = false;
        for name in request.resource_names_subscribe.drain(..) {
            asks = true;
            if name == WILDCARD {
                self.subscribe_all();
                continue;
            }
            let told = match self.initial.get(&name) {
                Some(version) => Told::Version(name.as_str().into(), version.as_str().into()),
                None => Told::Nothing,
            };
            // A name that is subscribed to again is answered again.
            self.names.insert(name.into(), told);
        }
        for name in request.resource_names_unsubscribe.drain(..) {
            if name == WILDCARD {
                self.wildcard = None;
            } else {
                self.names.remove(name.as_str());
            }
        }
        asks
    }

    fn subscribe_all(&mut self) {
        self.wildcard = Some(Holds::Initial(self.initial.clone()));
    }

    /// What the client lacks of `table`; `None` when that can no longer be told.
    pub(super) fn delta(&self, table: &Table) -> Option<Delta> {
        let mut delta = Delta::default();
        match &self.wildcard {
            None => {}
            Some(Holds::Initial(held)) => {
                for resource in table.iter() {
                    if held
                        .get(&*resource.name)
                        .is_none_or(|version| **version != *resource.version)
                    {
                        delta.change(resource);
                    }
                }
                let gone = held.keys().filter(|name| table.get(name).is_none());
                delta
                    .removed
                    .extend(gone.map(|name| Arc::from(name.as_str())));
            }
            Some(Holds::Generation(generation)) => {
                for name in table.changed_since(*generation)? {
                    match table.get(name) {
                        Some(resource) => delta.change(resource),
                        None => delta.remove(name),
                    }
                }
            }
        }
        for (asked, told) in &self.names {
            match (table.get(asked), told) {
                (Some(resource), Told::Version(_, version)) if *version == resource.version => {}
                (Some(resource), Told::Version(old, _)) if *old != resource.name => {
                    // An address changed hands; the former owner may still be there.
                    match table.get(old) {
                        Some(former) => delta.change(former),
                        None => delta.remove(old),
                    }
                    delta.change(resource);
                }
                (Some(resource), _) => {
                    delta.change(resource);
                }
                (None, Told::Missing) => {}
                (None, Told::Nothing) => delta.remove(asked),
                (None, Told::Version(name, _)) => delta.remove(name),
            }
        }
        delta.removed.retain(|name| {
            table
                .get(name)
                .is_none_or(|resource| resource.name != *name)
        });
        Some(delta)
    }

    /// The client now holds `table`, which is of that generation.
    pub(super) fn served(&mut self, table: &Table, generation: u64) {
        self.initial = HashMap::new();
        if let Some(holds) = &mut self.wildcard {
            *holds = Holds::Generation(generation);
        }
        for (asked, told) in &mut self.names {
            *told = match table.get(asked) {
                Some(resource) => Told::Version(resource.name.clone(), resource.version.clone()),
                None => Told::Missing,
            };
        }
    }
}
