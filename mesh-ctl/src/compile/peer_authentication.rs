//! PeerAuthentication -> DENY policies that match a connection without a principal.
//!
//! STRICT for all ports is one static policy that workloads list. A selecting policy with modes by
//! port becomes a policy of its own, which replaces the static one for its workloads: an exception
//! cannot be expressed beside a DENY.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch,
};

use super::dirty::Dirty;
use super::store::{Pod, Store};
use super::{Options, authorization};
use crate::model::{Mode, ObjectName, PeerAuthentication};
use crate::resources::Resource;

/// `_` is illegal in Kubernetes names: no user's policy has this name.
const PREFIX: &str = "istio_converted_";

/// The modes that whole namespaces and the mesh have; the oldest policy of each counts.
#[derive(Debug, Default)]
pub(super) struct Levels {
    mesh: Mode,
    namespaces: BTreeMap<Arc<str>, Mode>,
    strict: Arc<str>,
}

impl Levels {
    pub(super) fn new(store: &Store, options: &Options) -> Self {
        let mut oldest_first: Vec<_> = store.peer_authentications.values().collect();
        oldest_first.sort_by_key(|policy| policy.meta.age_order());
        let mut namespaces = BTreeMap::new();
        for policy in oldest_first.iter().filter(|p| p.selector.is_none()) {
            let namespace = Arc::clone(&policy.meta.name.namespace);
            namespaces.entry(namespace).or_insert(policy.mode);
        }
        let mesh = namespaces.get(&*options.root_namespace);
        Self {
            mesh: mesh.copied().unwrap_or_default().or(Mode::Permissive),
            namespaces,
            strict: strict_name(options),
        }
    }

    /// Marks whatever inherits another mode than before.
    pub(super) fn mark_changes(&self, before: &Self, store: &Store, dirty: &mut Dirty) {
        let inherits_other =
            |namespace: &str| self.of_namespace(namespace) != before.of_namespace(namespace);
        if self.mesh.or(Mode::Permissive) != before.mesh.or(Mode::Permissive) {
            dirty.pods(
                store
                    .pods()
                    .filter(|pod| inherits_other(&pod.name.namespace)),
            );
        } else {
            let named = self.namespaces.keys().chain(before.namespaces.keys());
            for namespace in named.filter(|namespace| inherits_other(namespace)) {
                dirty.pods(store.pods_of_namespace(namespace));
            }
        }
        let peers = store.peer_authentications.keys();
        let peers = peers.filter(|name| inherits_other(&name.namespace));
        dirty.peers.extend(peers.cloned());
    }

    /// The policy that the pod lists.
    pub(super) fn listed(&self, pod: &Pod, store: &Store) -> Option<String> {
        let inherited = self.of_namespace(&pod.name.namespace);
        let Some(policy) = selecting(pod, store) else {
            return (inherited == Mode::Strict).then(|| self.strict.to_string());
        };
        match effect(policy, inherited) {
            Effect::Strict => Some(self.strict.to_string()),
            Effect::Permissive => None,
            Effect::ByPort(_) => Some(key(&policy.meta.name).to_string()),
        }
    }

    fn of_namespace(&self, namespace: &str) -> Mode {
        let own = self.namespaces.get(namespace).copied().unwrap_or_default();
        own.or(self.mesh).or(Mode::Permissive)
    }
}

/// The oldest policy that selects the pod.
fn selecting<'a>(pod: &Pod, store: &'a Store) -> Option<&'a PeerAuthentication> {
    let candidates = store
        .peer_selectors
        .candidates(&pod.name.namespace, &pod.labels);
    let policies = candidates
        .into_iter()
        .filter_map(|name| store.peer_authentications.get(name));
    let is_for = |policy: &&PeerAuthentication| {
        let selector = policy.selector.as_ref();
        selector.is_some_and(|selector| pod.is_selected(selector))
    };
    policies
        .filter(is_for)
        .min_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()))
}

/// The static policy, which is there as soon as there is any PeerAuthentication.
pub(super) fn strict(store: &Store, options: &Options) -> (Arc<str>, Option<Resource>) {
    let name = strict_name(options);
    let policy = (!store.peer_authentications.is_empty()).then(|| {
        let everything = Match {
            not_principals: vec![any_principal()],
            ..Match::default()
        };
        denying(&name, everything)
    });
    (name, policy)
}

fn strict_name(options: &Options) -> Arc<str> {
    format!("{}/{PREFIX}static_strict", options.root_namespace).into()
}

fn key(name: &ObjectName) -> Arc<str> {
    format!("{}/{PREFIX}{}", name.namespace, name.name).into()
}

/// The policy of one PeerAuthentication, if it needs one of its own, by its key.
pub(super) fn compile(
    name: &ObjectName,
    store: &Store,
    levels: &Levels,
) -> (Arc<str>, Option<Resource>) {
    let key = key(name);
    let policy = store.peer_authentications.get(name);
    let policy = policy.filter(|policy| policy.selector.is_some());
    let effect = policy.map(|policy| effect(policy, levels.of_namespace(&name.namespace)));
    let resource = match effect {
        Some(Effect::ByPort(matching)) => Some(denying(&key, *matching)),
        Some(Effect::Strict | Effect::Permissive) | None => None,
    };
    (key, resource)
}

impl Mode {
    fn or(self, wider: Self) -> Self {
        if self == Self::Unset { wider } else { self }
    }
}

enum Effect {
    Strict,
    Permissive,
    ByPort(Box<Match>),
}

/// What a selecting policy amounts to, given the mode it inherits.
fn effect(policy: &PeerAuthentication, inherited: Mode) -> Effect {
    let base = policy.mode.or(inherited) == Mode::Strict;
    // The ports that differ from the rest.
    let differing: Vec<u32> = policy
        .ports
        .iter()
        .filter(|(_, mode)| **mode != Mode::Unset && (**mode == Mode::Strict) != base)
        .map(|(port, _)| u32::from(*port))
        .collect();
    let matching = Match {
        not_principals: vec![any_principal()],
        ..Match::default()
    };
    match (base, differing.is_empty()) {
        (true, true) => Effect::Strict,
        (false, true) => Effect::Permissive,
        (true, false) => Effect::ByPort(Box::new(Match {
            not_destination_ports: differing,
            ..matching
        })),
        (false, false) => Effect::ByPort(Box::new(Match {
            destination_ports: differing,
            ..matching
        })),
    }
}

fn denying(key: &str, matching: Match) -> Resource {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let policy = Authorization {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![matching],
            }],
        }],
        ..Authorization::default()
    };
    authorization::encode(key, &policy)
}

fn any_principal() -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Presence(())),
    }
}
