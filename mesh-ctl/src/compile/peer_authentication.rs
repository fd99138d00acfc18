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

use super::{Listed, Options, authorization};
use crate::model::{Mode, ObjectName, Objects, PeerAuthentication, Pod, selects};
use crate::resources::Compiled;

/// `_` is illegal in Kubernetes names: no user's policy has this name.
const PREFIX: &str = "istio_converted_";

pub(super) fn compile(objects: &Objects, options: &Options, out: &mut Compiled) -> Vec<Listed> {
    if objects.peer_authentications.is_empty() {
        return Vec::new();
    }
    let static_strict: Arc<str> =
        format!("{}/{PREFIX}static_strict", options.root_namespace).into();
    let everything = Match {
        not_principals: vec![any_principal()],
        ..Match::default()
    };
    publish(out, &static_strict, vec![everything]);

    let levels = Levels::new(objects, &options.root_namespace);
    // What a workload lists, by the policy that decides for it.
    let mut by_selecting: BTreeMap<&ObjectName, Option<Arc<str>>> = BTreeMap::new();
    for policy in objects
        .peer_authentications
        .values()
        .filter(|p| p.selector.is_some())
    {
        let key = match effect(policy, levels.of_namespace(&policy.meta.name.namespace)) {
            Effect::Strict => Some(Arc::clone(&static_strict)),
            Effect::Permissive => None,
            Effect::ByPort(matching) => {
                let name = &policy.meta.name;
                let key: Arc<str> = format!("{}/{PREFIX}{}", name.namespace, name.name).into();
                publish(out, &key, vec![*matching]);
                Some(key)
            }
        };
        by_selecting.insert(&policy.meta.name, key);
    }

    let mut lists: BTreeMap<Arc<str>, Vec<ObjectName>> = BTreeMap::new();
    for pod in objects.pods.values() {
        let key = match levels.selecting(pod) {
            Some(policy) => by_selecting.get(&policy.meta.name).cloned().flatten(),
            None => (levels.of_namespace(&pod.meta.name.namespace) == Mode::Strict)
                .then(|| Arc::clone(&static_strict)),
        };
        if let Some(key) = key {
            lists.entry(key).or_default().push(pod.meta.name.clone());
        }
    }
    let listed = |(key, pods): (Arc<str>, Vec<ObjectName>)| {
        // Pods were visited in order.
        let selects = move |pod: &Pod| pods.binary_search(&pod.meta.name).is_ok();
        Listed {
            key,
            selects: Box::new(selects),
        }
    };
    lists.into_iter().map(listed).collect()
}

/// The policies by their reach; the oldest of each level counts.
struct Levels<'a> {
    mesh: Mode,
    namespaces: BTreeMap<&'a str, &'a PeerAuthentication>,
    selecting: BTreeMap<&'a str, Vec<&'a PeerAuthentication>>,
}

impl<'a> Levels<'a> {
    fn new(objects: &'a Objects, root_namespace: &str) -> Self {
        let mut oldest_first: Vec<_> = objects.peer_authentications.values().collect();
        oldest_first.sort_by_key(|policy| policy.meta.age_order());
        let mut namespaces = BTreeMap::new();
        let mut selecting: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for policy in oldest_first {
            let namespace = &*policy.meta.name.namespace;
            if policy.selector.is_some() {
                selecting.entry(namespace).or_default().push(policy);
            } else {
                namespaces.entry(namespace).or_insert(policy);
            }
        }
        let mesh = namespaces
            .get(root_namespace)
            .map_or(Mode::Permissive, |policy| policy.mode);
        Self {
            mesh: mesh.or(Mode::Permissive),
            namespaces,
            selecting,
        }
    }

    fn of_namespace(&self, namespace: &str) -> Mode {
        self.namespaces
            .get(namespace)
            .map_or(Mode::Unset, |policy| policy.mode)
            .or(self.mesh)
    }

    fn selecting(&self, pod: &Pod) -> Option<&'a PeerAuthentication> {
        let candidates = self.selecting.get(&*pod.meta.name.namespace)?;
        let is_for = |policy: &&&PeerAuthentication| {
            policy
                .selector
                .as_ref()
                .is_some_and(|selector| selects(selector, &pod.meta.labels))
        };
        candidates.iter().find(is_for).copied()
    }
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

fn publish(out: &mut Compiled, key: &Arc<str>, matches: Vec<Match>) {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let policy = Authorization {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules: vec![Rule {
            clauses: vec![Clause { matches }],
        }],
        ..Authorization::default()
    };
    authorization::insert(out, key, &policy);
}

fn any_principal() -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Presence(())),
    }
}
