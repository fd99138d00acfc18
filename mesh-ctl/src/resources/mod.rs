//! Versioned resources: what the mesh looks like at one moment, ready to be sent.
//!
//! A [`World`] is immutable and shared by all clients; the next one shares with it whatever did not
//! change, so that it costs in proportion to what did. A log tells which names changed when, so that
//! what a client lacks is found as fast, and a client needs to remember only one number. A resource
//! whose content did not change keeps its version.

mod identities;
mod log;
mod resource;
mod table;
pub(crate) mod trie;

pub use identities::{Identity, IdentityChanges, NodeIdentities};
pub use resource::Resource;
pub use table::{Delta, Table, Updates};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// A resource type of the discovery protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Workloads and services.
    Address,
    /// L4 policies.
    Authorization,
    /// Which pods of a node are in the mesh, and which namespaces.
    Enrolment,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Address, Self::Authorization, Self::Enrolment];

    /// The name of the type on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::Enrolment => "type.googleapis.com/weft.enrolment.Enrolment",
        }
    }

    /// A short name, for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Authorization => "authorization",
            Self::Enrolment => "enrolment",
        }
    }

    /// The kind of a type name; `None` for a type that Weft does not serve.
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }
}

/// What [`crate::compile::compile`] makes of all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Workloads and services.
    pub addresses: BTreeMap<Arc<str>, Resource>,
    /// L4 policies.
    pub policies: BTreeMap<Arc<str>, Resource>,
    /// Which pods of a node are in the mesh, and which namespaces.
    pub enrolments: BTreeMap<Arc<str>, Resource>,
    /// For the certificate authority.
    pub identities: IdentityChanges,
    /// What is not enforced as it was written: one line each.
    pub warnings: BTreeSet<String>,
}

/// What a change of the objects amounts to. A resource that is as before may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Workloads and services.
    pub addresses: Updates,
    /// L4 policies.
    pub policies: Updates,
    /// Which pods of a node are in the mesh, and which namespaces.
    pub enrolments: Updates,
    /// Pods that came to a node, or went.
    pub identities: IdentityChanges,
}

impl From<Compiled> for Step {
    fn from(compiled: Compiled) -> Self {
        let all = |table: BTreeMap<Arc<str>, Resource>| -> Updates {
            table.into_iter().map(|(n, r)| (n, Some(r))).collect()
        };
        Self {
            addresses: all(compiled.addresses),
            policies: all(compiled.policies),
            enrolments: all(compiled.enrolments),
            identities: compiled.identities,
        }
    }
}

/// One moment of the mesh.
#[derive(Debug, Default)]
pub struct World {
    generation: u64,
    addresses: Table,
    policies: Table,
    enrolments: Table,
    identities: NodeIdentities,
}

impl World {
    /// The world after a step that began at that time; `None` when nothing is different.
    pub fn next(&self, step: Step, at: Instant) -> Option<Self> {
        let generation = self.generation + 1;
        let addresses = self.addresses.next(generation, at, step.addresses);
        let policies = self.policies.next(generation, at, step.policies);
        let enrolments = self.enrolments.next(generation, at, step.enrolments);
        let same = addresses.is_none() && policies.is_none() && enrolments.is_none();
        if same && step.identities.is_empty() {
            return None;
        }
        let mut identities = self.identities.clone();
        identities.apply(step.identities);
        Some(Self {
            generation,
            addresses: addresses.unwrap_or_else(|| self.addresses.derive()),
            policies: policies.unwrap_or_else(|| self.policies.derive()),
            enrolments: enrolments.unwrap_or_else(|| self.enrolments.derive()),
            identities,
        })
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
            Kind::Enrolment => &self.enrolments,
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

    /// `+name` with a body, or `-name`.
    fn step(updates: &[(&str, Option<&str>)]) -> Step {
        let update = |(name, body): &(&str, Option<&str>)| {
            let resource = body.map(|body| {
                let alias = vec![format!("/{name}"), "/shared".into()];
                Resource::new(Kind::Address, name, body.as_bytes().to_vec(), alias)
            });
            (Arc::from(*name), resource)
        };
        Step {
            addresses: updates.iter().map(update).collect(),
            ..Step::default()
        }
    }

    fn next(world: &World, updates: &[(&str, Option<&str>)]) -> Option<World> {
        world.next(step(updates), Instant::now())
    }

    fn since(world: &World, generation: u64) -> Option<String> {
        let delta = world.table(Kind::Address).since(generation)?;
        let changed = delta.changed.iter().map(|r| format!("+{}", r.name));
        let removed = delta.removed.iter().map(|name| format!("-{name}"));
        Some(changed.chain(removed).collect())
    }

    #[test]
    fn only_what_changed_is_newer() {
        let one = next(&World::default(), &[("a", Some("1")), ("b", Some("1"))]).unwrap();
        assert_eq!(since(&one, 0), None, "nobody holds generation 0");
        assert_eq!(since(&one, 1).unwrap(), "");
        assert!(next(&one, &[("a", Some("1")), ("x", None)]).is_none());

        let two = next(&one, &[("b", Some("2")), ("c", Some("1"))]).unwrap();
        assert_eq!(since(&two, 1).unwrap(), "+b+c");
        let three = next(&two, &[("a", None)]).unwrap();
        assert_eq!(since(&three, 2).unwrap(), "-a", "a removal is a change");
        assert_eq!(since(&three, 1).unwrap(), "+b+c-a");
        assert!(three.table(Kind::Address).get("a").is_none());
        let four = next(&three, &[("a", Some("1"))]).unwrap();
        assert_eq!(since(&four, 2).unwrap(), "+a", "it is back, and named once");
        assert_eq!(four.table(Kind::Address).len(), 3);
        assert_eq!(one.table(Kind::Address).len(), 2, "the older is as it was");
        let wire: usize = four
            .table(Kind::Address)
            .iter()
            .map(|r| r.wire().len())
            .sum();
        assert_eq!(four.table(Kind::Address).wire_len(), wire as u64);
    }

    #[test]
    fn a_delta_is_made_once() {
        let one = next(&World::default(), &[("a", Some("1"))]).unwrap();
        let two = next(&one, &[("a", Some("2"))]).unwrap();
        let table = two.table(Kind::Address);
        let (first, again) = (table.since(1).unwrap(), table.since(1).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(first.encoded().unwrap(), table.get("a").unwrap().wire());
    }

    #[test]
    fn aliases_lead_to_the_resource() {
        let name = |world: &World, alias: &str| {
            let found = world.table(Kind::Address).get(alias);
            found.map(|resource| resource.name.to_string())
        };
        let one = next(&World::default(), &[("a", Some("1")), ("b", Some("1"))]).unwrap();
        assert_eq!(name(&one, "/a").unwrap(), "a");
        assert_eq!(name(&one, "/c"), None);
        assert_eq!(name(&one, "/shared").unwrap(), "b");
        let two = next(&one, &[("a", Some("2"))]).unwrap();
        assert_eq!(name(&two, "/shared").unwrap(), "b", "whatever came last");
        let three = next(&two, &[("b", None)]).unwrap();
        assert_eq!(name(&three, "/shared").unwrap(), "a");
    }
}
