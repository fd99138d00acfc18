//! Every service account with every port of every workload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_common::question::{Client, Server, Target, TargetKind};
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::{Tunnel, Workload};

use super::effect::{Judge, Side, State};
use super::report::Report;
use crate::meshctl::CliError;
use crate::meshctl::policy::offline::Offline;
use crate::model::ObjectName;

/// More than this take too long to be looked at by hand, or in CI.
const MOST: usize = 2_000_000;
/// An address that is for documentation: it is nobody's.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE_NAME: &str = "outside the mesh";

/// Service account, or whoever is outside; whether it is enrolled.
type Clients = BTreeMap<(String, bool), Client>;
/// Namespace and name of a deployment, and its service account; its ports, and one pod for each list of
/// policies.
type Targets = BTreeMap<(String, String), (BTreeSet<u16>, Vec<Arc<Workload>>)>;

/// Judges each before and after.
pub(super) fn compare(
    old: &Offline,
    new: &Offline,
    judge: &Judge<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    let (old_clients, new_clients) = (clients(&old.snapshot), clients(&new.snapshot));
    let (old_targets, new_targets) = (targets(old), targets(new));
    let names: BTreeSet<_> = old_clients.keys().chain(new_clients.keys()).collect();
    let places: BTreeSet<_> = old_targets.keys().chain(new_targets.keys()).collect();
    let other = other_port(&[old, new], &old_targets, &new_targets);
    let ports = |place: &(String, String)| {
        let of = |targets: &Targets| targets.get(place).map(|(ports, _)| ports.clone());
        let mut ports = of(&old_targets).unwrap_or_default();
        ports.extend(of(&new_targets).unwrap_or_default());
        ports
    };
    let all: usize = places.iter().map(|place| ports(place).len() + 1).sum();
    if all * names.len() > MOST {
        return Err(CliError::Failed(format!(
            "{} service accounts and {all} ports of workloads are more than {MOST} pairs; say which \
             connections matter with --flows or --observed",
            names.len()
        )));
    }
    for place in places {
        let ports = ports(place);
        for port in ports.into_iter().map(Some).chain([None]) {
            let number = port.unwrap_or(other);
            let old_target = old_targets.get(place).map(|(_, pods)| pods.as_slice());
            let new_target = new_targets.get(place).map(|(_, pods)| pods.as_slice());
            for name in &names {
                // Who is not there any more, or not yet, still asks: that is what is compared.
                let (Some(before), Some(after)) = (
                    old_clients.get(*name).or(new_clients.get(*name)),
                    new_clients.get(*name).or(old_clients.get(*name)),
                ) else {
                    continue;
                };
                let before = state(&judge.old, before, old_target, number);
                let after = state(&judge.new, after, new_target, number);
                report.judged(1);
                let (account, enrolled) = name;
                let plain = if *enrolled || account == OUTSIDE_NAME {
                    ""
                } else {
                    " (plaintext)"
                };
                let from = format!("{account}{plain}");
                report.compare(&from, &place.0, port, before, after, 1);
            }
        }
    }
    Ok(())
}

fn clients(snapshot: &Snapshot) -> Clients {
    let mut pods: Vec<_> = snapshot.workloads().filter(|w| !w.host_network).collect();
    pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
    let mut clients = Clients::new();
    clients.insert(
        (OUTSIDE_NAME.to_owned(), false),
        Client::seen(OUTSIDE, None),
    );
    for pod in pods {
        let Some(ip) = pod.addresses.first() else {
            continue;
        };
        let enrolled = pod.tunnel == Tunnel::Hbone;
        let name = format!("{}/{}", pod.namespace, pod.service_account);
        let client = || Client::seen(*ip, enrolled.then(|| pod.identity()));
        clients.entry((name, enrolled)).or_insert_with(client);
    }
    clients
}

fn targets(offline: &Offline) -> Targets {
    let snapshot = &offline.snapshot;
    let enrolled = |w: &&Arc<Workload>| w.tunnel == Tunnel::Hbone && !w.addresses.is_empty();
    let mut pods: Vec<_> = snapshot.workloads().filter(enrolled).collect();
    pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
    let mut targets = Targets::new();
    for pod in pods {
        let name = match &*pod.workload_name {
            "" => &pod.name,
            _ => &pod.workload_name,
        };
        let key = (
            format!("{}/{name}", pod.namespace),
            pod.service_account.to_string(),
        );
        let (ports, alike) = targets.entry(key).or_default();
        let object = ObjectName::new(&pod.namespace, &pod.name);
        if let Some(declared) = offline.objects.pods.get(&object) {
            ports.extend(&declared.declared_ports);
        }
        let of_services = pod.services.values().flatten().map(|port| port.target_port);
        ports.extend(of_services.filter(|port| *port != 0));
        if !alike.iter().any(|other| other.policies == pod.policies) {
            alike.push(pod.clone());
        }
    }
    targets
}

/// A port that nobody has and no policy names: it stands for all others.
fn other_port(sides: &[&Offline], old: &Targets, new: &Targets) -> u16 {
    let mut named: BTreeSet<u16> = BTreeSet::new();
    for (ports, _) in old.values().chain(new.values()) {
        named.extend(ports);
    }
    for side in sides {
        let rules = side.snapshot.policies().flat_map(|policy| &policy.rules);
        let clauses = rules.flat_map(|rule| &rule.clauses);
        for m in clauses.flat_map(|clause| &clause.matches) {
            named.extend(&m.destination_ports);
            named.extend(&m.not_destination_ports);
        }
    }
    let free = (1..15_000).rev().find(|port| !named.contains(port));
    free.unwrap_or(1)
}

fn state(side: &Side<'_>, client: &Client, pods: Option<&[Arc<Workload>]>, port: u16) -> State {
    let Some([first, ..]) = pods else {
        return State::gone("the workload is not there, or not enrolled");
    };
    let server = |pod: &Arc<Workload>| {
        let ip = pod.addresses.first()?;
        Some(Server {
            workload: Some(pod.clone()),
            address: SocketAddr::new(*ip, port),
        })
    };
    let target = Target {
        kind: TargetKind::Pod(first.clone()),
        servers: pods.into_iter().flatten().filter_map(server).collect(),
        without_port: Vec::new(),
    };
    side.state(std::slice::from_ref(client), &target)
}
