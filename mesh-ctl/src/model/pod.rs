//! Pods: the workloads of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::document::{PodDocument, PodSpec, PodStatus};
use super::{FieldError, Meta, parse_address, parse_port};

/// The controller that made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// The owner's name.
    pub name: String,
}

/// A pod, reduced to what the mesh needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name and labels.
    pub meta: Meta,
    /// What tells it from another of the same name; empty in most hand-written files.
    pub uid: String,
    /// `default` when the pod names none.
    pub service_account: Arc<str>,
    /// Empty until the pod is scheduled.
    pub node: Arc<str>,
    /// Shares the node's network namespace.
    pub host_network: bool,
    /// Empty until the pod has a network.
    pub addresses: Vec<IpAddr>,
    /// Ready to serve; a file without status counts as ready.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    /// Ran to its end: Succeeded or Failed.
    pub finished: bool,
    /// The controlling owner.
    pub owner: Option<Owner>,
    /// Named TCP ports of its containers.
    pub ports: BTreeMap<String, u16>,
    /// Every TCP port that its containers declare, named or not.
    pub declared_ports: BTreeSet<u16>,
}

impl Pod {
    /// Reduces the Kubernetes object.
    pub(crate) fn parse(mut pod: PodDocument) -> Result<Self, FieldError> {
        let meta = Meta::namespaced(&mut pod.metadata)?;
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let (ports, declared_ports) = ports(&spec)?;
        let account = spec.service_account_name.or(spec.service_account);
        let account = account.filter(|name| !name.is_empty());
        Ok(Self {
            uid: pod.metadata.uid.take().unwrap_or_default(),
            service_account: account.as_deref().unwrap_or("default").into(),
            node: spec.node_name.as_deref().unwrap_or_default().into(),
            host_network: spec.host_network.unwrap_or_default(),
            addresses: addresses(&status)?,
            ready: is_ready(&status),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            owner: pod
                .metadata
                .owner_references
                .unwrap_or_default()
                .into_iter()
                .find(|owner| owner.controller.unwrap_or(true))
                .map(|owner| Owner {
                    kind: owner.kind,
                    name: owner.name,
                }),
            ports,
            declared_ports,
            meta,
        })
    }
}

/// The Ready condition; without one, a pod that runs (or says nothing of its phase) is ready.
fn is_ready(status: &PodStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    match conditions
        .iter()
        .find(|condition| condition.kind == "Ready")
    {
        Some(condition) => condition.status == "True",
        None => matches!(status.phase.as_deref(), None | Some("Running")),
    }
}

fn addresses(status: &PodStatus) -> Result<Vec<IpAddr>, FieldError> {
    let mut all = Vec::new();
    if let Some(ip) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty()) {
        all.push(parse_address("status.podIP", ip)?);
    }
    for (i, entry) in status.pod_ips.iter().flatten().enumerate() {
        let address = parse_address(&format!("status.podIPs[{i}].ip"), &entry.ip)?;
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

type Ports = (BTreeMap<String, u16>, BTreeSet<u16>);

/// The named ports, and all.
fn ports(spec: &PodSpec) -> Result<Ports, FieldError> {
    let (mut named, mut declared) = (BTreeMap::new(), BTreeSet::new());
    let containers = spec.containers.iter().flatten().map(|c| ("containers", c));
    // An init container with its own restart policy is a sidecar: it serves too.
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| ("initContainers", c));
    let sidecars = sidecars.filter(|(_, c)| c.restart_policy.is_some());
    for (list, container) in containers.chain(sidecars) {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            if port
                .protocol
                .as_deref()
                .is_some_and(|protocol| protocol != "TCP")
            {
                continue;
            }
            let field = format!("spec.{list}({}).ports[{i}].containerPort", container.name);
            let number = parse_port(&field, port.container_port)?;
            declared.insert(number);
            if let Some(name) = &port.name {
                named.entry(name.clone()).or_insert(number);
            }
        }
    }
    Ok((named, declared))
}
