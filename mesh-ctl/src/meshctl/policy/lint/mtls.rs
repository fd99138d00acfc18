//! PeerAuthentication: which plaintext is let in, and what policies make of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_common::policy::{Policy, PolicyAction, Reach};

use super::finding::Code;
use super::world::{PEER, POLICY, World};
use crate::meshctl::policy::offline::CONVERTED;
use crate::model::{Mode, ObjectName, PeerAuthentication};

const RESTRICTED: &str = "static_strict";

pub(super) fn check(world: &mut World<'_>) {
    let mut peers: Vec<_> = world.peers().collect();
    peers.sort_by_key(|(_, peer)| peer.meta.age_order());
    set_aside(world, &peers);
    modes(world, &peers);
    plaintext_rules(world);
    plaintext_impossible(world);
}

/// Of several for the same workloads the oldest counts.
fn set_aside(world: &mut World<'_>, oldest_first: &[(&ObjectName, &PeerAuthentication)]) {
    let remedy = "remove one of them";
    let mut of_namespace: BTreeMap<&str, &ObjectName> = BTreeMap::new();
    let mut of_pod: HashMap<&ObjectName, (&ObjectName, &PeerAuthentication)> = HashMap::new();
    for (name, peer) in oldest_first {
        if peer.selector.is_none() {
            if let Some(first) = of_namespace.get(&*name.namespace) {
                let what = format!(
                    "{first} is for the same workloads and counts, because it is older (or first by name)"
                );
                world.note(
                    Code::PeerAuthenticationIgnored,
                    (PEER, name),
                    "spec",
                    what,
                    remedy,
                );
            } else {
                of_namespace.insert(&name.namespace, name);
            }
            continue;
        }
        let pods: Vec<_> = world.pods_of_peer(name, peer).map(|(pod, _)| pod).collect();
        let mut loses: BTreeMap<&ObjectName, Vec<String>> = BTreeMap::new();
        for pod in pods {
            match of_pod.get(pod) {
                Some((first, other)) if (other.mode, &other.ports) != (peer.mode, &peer.ports) => {
                    loses.entry(*first).or_default().push(pod.to_string());
                }
                Some(_) => {}
                None => _ = of_pod.insert(pod, (*name, *peer)),
            }
        }
        for (first, pods) in loses {
            let what = format!(
                "{first} selects {} too, says otherwise and counts, because it is older (or first by name)",
                several(&pods)
            );
            let field = "spec.selector.matchLabels";
            world.note(
                Code::PeerAuthenticationIgnored,
                (PEER, name),
                field,
                what,
                remedy,
            );
        }
    }
}

fn modes(world: &mut World<'_>, peers: &[(&ObjectName, &PeerAuthentication)]) {
    let wide = |namespace: &str| {
        let of = peers.iter().find(|(name, peer)| {
            peer.selector.is_none() && *name.namespace == *namespace && peer.mode != Mode::Unset
        });
        of.map(|(_, peer)| peer.mode)
    };
    let mesh = wide(&world.offline.root_namespace);
    for (name, peer) in peers {
        let by_port = peer.ports.iter().map(|(port, mode)| (Some(*port), *mode));
        for (port, mode) in std::iter::once((None, peer.mode)).chain(by_port) {
            let field = match port {
                None => "spec.mtls.mode".to_owned(),
                Some(port) => format!("spec.portLevelMtls[{port}].mode"),
            };
            if mode == Mode::Disable {
                let what = "DISABLE is as PERMISSIVE: plaintext is let in, and tunnels still are";
                let remedy = "write PERMISSIVE";
                world.note(
                    Code::DisableIsPermissive,
                    (PEER, name),
                    &*field,
                    what,
                    remedy,
                );
            }
            let opens = matches!(mode, Mode::Permissive | Mode::Disable);
            let inherited = match (&peer.selector, port) {
                (Some(_), Some(_)) if peer.mode != Mode::Unset => Some(peer.mode),
                (Some(_), _) => wide(&name.namespace).or(mesh),
                (None, _) if world.is_root(&name.namespace) => None,
                (None, _) => mesh,
            };
            if opens && inherited == Some(Mode::Strict) {
                let what = "it lets plaintext in where the rest is STRICT";
                let remedy = "nothing, if that is meant; else remove it";
                world.note(Code::StrictWeakened, (PEER, name), &*field, what, remedy);
            }
        }
    }
}

/// Rules that only plaintext matches, where it is refused on every port.
fn plaintext_rules(world: &mut World<'_>) {
    let sent = by_key(world);
    for (name, stated) in world.policies() {
        let Some(policy) = sent.get(&*name.to_string()) else {
            continue;
        };
        if policy.action != PolicyAction::Allow {
            continue;
        }
        let mut pods = 0;
        let all_strict = world.pods(name, stated.selector.as_ref()).all(|(pod, _)| {
            let Some(workload) = world.workload(pod).filter(|_| world.is_enrolled(pod)) else {
                return true;
            };
            pods += 1;
            workload.policies.iter().any(|policy| is_strict(policy))
        });
        if pods == 0 || !all_strict {
            continue;
        }
        for (n, rule) in policy.rules.iter().enumerate() {
            let reach = Reach::of(rule, policy.action);
            if !reach.is_empty() && reach.excludes_principals() {
                let what = "it allows only connections without an identity, and PeerAuthentication STRICT \
                            refuses those";
                let remedy = "remove it, or make the workloads PERMISSIVE";
                let field = format!("spec.rules[{n}]");
                world.note(Code::PlaintextRefused, (POLICY, name), field, what, remedy);
            }
        }
    }
}

/// Pods that accept plaintext, of which no rule allows any.
fn plaintext_impossible(world: &mut World<'_>) {
    let stated: HashMap<_, _> = world
        .policies()
        .map(|(name, policy)| (name.to_string(), (name, policy)))
        .collect();
    // By the policies that allow something to the pod.
    let mut groups: BTreeMap<Vec<Arc<str>>, Vec<String>> = BTreeMap::new();
    for workload in world.offline.snapshot.workloads() {
        let name = ObjectName::new(&workload.namespace, &workload.name);
        let converted = workload.policies.iter().any(|policy| {
            let name = policy.split_once('/').map_or("", |(_, name)| name);
            name.starts_with(CONVERTED)
        });
        if converted || !world.is_enrolled(&name) {
            continue;
        }
        let set = world.offline.snapshot.policies_for(workload);
        let allow: Vec<&Arc<Policy>> = set
            .iter()
            .filter(|policy| policy.action == PolicyAction::Allow && !policy.dry_run)
            .collect();
        let needs = |policy: &&Arc<Policy>| {
            let mut rules = policy.rules.iter();
            rules.all(|rule| Reach::of(rule, policy.action).needs_principal())
        };
        let some_rule = allow.iter().any(|policy| !policy.rules.is_empty());
        if some_rule && allow.iter().all(needs) {
            let keys = allow.iter().map(|policy| policy.key().clone()).collect();
            groups.entry(keys).or_default().push(name.to_string());
        }
    }
    for (policies, mut pods) in groups {
        let Some((name, _)) = policies.iter().find_map(|key| stated.get(&**key)) else {
            continue;
        };
        pods.sort_unstable();
        let what = format!(
            "{} let plaintext in (PERMISSIVE), but every rule that could allow it asks for an identity: \
             none is allowed",
            several(&pods)
        );
        let remedy = "nothing; PeerAuthentication STRICT for them would say the same";
        world.note(
            Code::PlaintextImpossible,
            (POLICY, name),
            "spec.rules",
            what,
            remedy,
        );
    }
}

fn is_strict(policy: &str) -> bool {
    let name = policy.split_once('/').map_or("", |(_, name)| name);
    name.strip_prefix(CONVERTED) == Some(RESTRICTED)
}

fn by_key<'a>(world: &World<'a>) -> HashMap<&'a str, &'a Arc<Policy>> {
    let policies = world.offline.snapshot.policies();
    policies.map(|policy| (&**policy.key(), policy)).collect()
}

/// Some of them, and how many more.
fn several(pods: &[String]) -> String {
    const MOST: usize = 3;
    let listed = pods[..pods.len().min(MOST)].join(", ");
    match pods.len().saturating_sub(MOST) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}
