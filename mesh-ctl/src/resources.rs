//! Versioned resources: what the mesh looks like at one moment, ready to be sent.
//!
//! A [`World`] is immutable and shared by all clients. Each name remembers the generation of its last
//! change, so that what a client lacks is found in time proportional to what changed since it was
//! last served, and a client needs to remember only one number. A resource whose content did not
//! change keeps its version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

/// A resource type of the discovery protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Workloads and services.
    Address,
    /// L4 policies.
    Authorization,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Address, Self::Authorization];

    /// The name of the type on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
        }
    }

    /// A short name, for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Authorization => "authorization",
        }
    }

    /// The kind of a type name; `None` for a type that Weft does not serve.
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }
}

/// One encoded resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its kind.
    pub name: Arc<str>,
    /// A hash of the content.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Bytes,
    /// Other names it can be asked for by: `network/ip`.
    pub aliases: Vec<Arc<str>>,
}

impl Resource {
    /// Derives the version from the content. Equal messages must be encoded to equal bytes.
    pub fn new(name: &str, body: Vec<u8>, aliases: Vec<Arc<str>>) -> Self {
        let hash = digest::digest(&digest::SHA256, &body);
        let version: String = hash.as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            name: name.into(),
            version: version.into(),
            body: body.into(),
            aliases,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    resource: Arc<Resource>,
    changed: u64,
}

/// All resources of one kind.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: BTreeMap<Arc<str>, Entry>,
    aliases: HashMap<Arc<str>, Arc<str>>,
    /// Every name by the generation of its last change, oldest first; removed names too.
    log: Vec<(u64, Arc<str>)>,
    /// Removals up to this generation are forgotten.
    floor: u64,
}

/// Removed names are remembered for this many generations at least.
const REMEMBERED: u64 = 10_000;

impl Table {
    /// The resource of that name, or with that alias.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let by_name = self.entries.get(name);
        let entry = by_name.or_else(|| self.entries.get(self.aliases.get(name)?))?;
        Some(&entry.resource)
    }

    /// All resources, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.entries.values().map(|entry| &entry.resource)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names whose last change (or removal) came after that generation; `None` when it is too
    /// long ago to tell.
    pub fn changed_since(&self, generation: u64) -> Option<impl Iterator<Item = &Arc<str>>> {
        let from = self
            .log
            .partition_point(|(changed, _)| *changed <= generation);
        (generation >= self.floor).then(|| self.log[from..].iter().map(|(_, name)| name))
    }

    fn next(&self, generation: u64, resources: BTreeMap<Arc<str>, Resource>) -> Self {
        let mut next = Self {
            floor: self.floor.max(generation.saturating_sub(REMEMBERED)),
            ..Self::default()
        };
        let mut removed: BTreeSet<&Arc<str>> = self.entries.keys().collect();
        for (name, resource) in resources {
            removed.remove(&name);
            let entry = match self.entries.get(&name) {
                Some(old) if *old.resource == resource => old.clone(),
                _ => Entry {
                    resource: Arc::new(resource),
                    changed: generation,
                },
            };
            for alias in &entry.resource.aliases {
                next.aliases.insert(Arc::clone(alias), Arc::clone(&name));
            }
            next.entries.insert(name, entry);
        }
        let gone_before = self.log.iter().filter(|(changed, name)| {
            *changed > next.floor
                && !self.entries.contains_key(name)
                && !next.entries.contains_key(name)
        });
        next.log.extend(gone_before.cloned());
        next.log.extend(
            removed
                .into_iter()
                .map(|name| (generation, Arc::clone(name))),
        );
        let live = next
            .entries
            .iter()
            .map(|(name, entry)| (entry.changed, Arc::clone(name)));
        next.log.extend(live);
        next.log.sort();
        next
    }
}

/// Namespace and service account.
type Account = (Arc<str>, Arc<str>);

/// Which service accounts have a pod on which node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIdentities(HashMap<Arc<str>, BTreeSet<Account>>);

impl NodeIdentities {
    /// Notes that a pod of `account` in `namespace` runs on `node`.
    pub fn insert(&mut self, node: &Arc<str>, namespace: &Arc<str>, account: &Arc<str>) {
        let identities = self.0.entry(Arc::clone(node)).or_default();
        identities.insert((Arc::clone(namespace), Arc::clone(account)));
    }

    /// True when such a pod runs there.
    pub fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        let key = (Arc::from(namespace), Arc::from(account));
        self.0
            .get(node)
            .is_some_and(|identities| identities.contains(&key))
    }
}

/// What [`crate::compile`] makes of the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Workloads and services.
    pub addresses: BTreeMap<Arc<str>, Resource>,
    /// L4 policies.
    pub policies: BTreeMap<Arc<str>, Resource>,
    /// For the certificate authority.
    pub identities: NodeIdentities,
    /// What is not enforced as it was written: one line each.
    pub warnings: BTreeSet<String>,
}

/// One moment of the mesh.
#[derive(Clone, Debug, Default)]
pub struct World {
    generation: u64,
    addresses: Table,
    policies: Table,
    identities: NodeIdentities,
}

impl World {
    /// The world after this one; `None` when nothing is different.
    pub fn next(&self, compiled: Compiled) -> Option<Self> {
        let generation = self.generation + 1;
        let next = Self {
            generation,
            addresses: self.addresses.next(generation, compiled.addresses),
            policies: self.policies.next(generation, compiled.policies),
            identities: compiled.identities,
        };
        let unchanged = self.generation > 0
            && next.identities == self.identities
            && next.addresses.log == self.addresses.log
            && next.policies.log == self.policies.log;
        (!unchanged).then_some(next)
    }

    /// Counts the changes of this process; zero before the first compilation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The resources of a kind.
    pub fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.policies,
        }
    }

    /// What runs where.
    pub fn identities(&self) -> &NodeIdentities {
        &self.identities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(addresses: &[(&str, &str)]) -> Compiled {
        let resource = |(name, body): &(&str, &str)| {
            let alias = Arc::from(format!("/{name}"));
            (
                Arc::from(*name),
                Resource::new(name, body.as_bytes().to_vec(), vec![alias]),
            )
        };
        Compiled {
            addresses: addresses.iter().map(resource).collect(),
            ..Compiled::default()
        }
    }

    fn since(world: &World, generation: u64) -> Vec<String> {
        let names = world
            .table(Kind::Address)
            .changed_since(generation)
            .unwrap();
        names.map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_changed_is_newer() {
        let one = World::default()
            .next(compiled(&[("a", "1"), ("b", "1")]))
            .unwrap();
        assert_eq!(since(&one, 0), ["a", "b"]);
        assert_eq!(since(&one, 1), [""; 0]);
        assert!(
            one.next(compiled(&[("a", "1"), ("b", "1")])).is_none(),
            "nothing changed"
        );

        let two = one
            .next(compiled(&[("a", "1"), ("b", "2"), ("c", "1")]))
            .unwrap();
        assert_eq!(since(&two, 1), ["b", "c"]);
        let three = two.next(compiled(&[("b", "2"), ("c", "1")])).unwrap();
        assert_eq!(since(&three, 2), ["a"], "a removal is a change");
        assert_eq!(since(&three, 1), ["b", "c", "a"]);
        assert!(three.table(Kind::Address).get("a").is_none());
        let four = three
            .next(compiled(&[("a", "1"), ("b", "2"), ("c", "1")]))
            .unwrap();
        assert_eq!(since(&four, 3), ["a"], "it is back, and named once");
        assert_eq!(since(&four, 0), ["b", "c", "a"]);
    }

    #[test]
    fn aliases_lead_to_the_resource() {
        let world = World::default().next(compiled(&[("a", "1")])).unwrap();
        assert_eq!(&*world.table(Kind::Address).get("/a").unwrap().name, "a");
        assert!(world.table(Kind::Address).get("/b").is_none());
    }

    #[test]
    fn forgotten_removals_are_admitted() {
        let mut table = Table::default().next(1, compiled(&[("a", "1")]).addresses);
        table = table.next(2, BTreeMap::new());
        assert!(table.changed_since(1).is_some());
        table = table.next(REMEMBERED + 3, BTreeMap::new());
        assert!(
            table.changed_since(1).is_none(),
            "the removal of a is forgotten"
        );
        assert!(table.changed_since(3).is_some());
    }
}
