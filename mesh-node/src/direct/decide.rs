//! Which connections may do without a tunnel: the judgement that they would meet at the end of one.

use mesh_common::abi::{HBONE_PORT, INBOUND_PORT, OUTBOUND_PORT};
use mesh_common::identity::SpiffeId;
use mesh_common::policy::{self, Connection, Reason, Verdict};
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::{Tunnel, Workload};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use thiserror::Error;

use crate::pod::Pod;

const AGENT_PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT];

/// What an exemption is granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The client's address.
    pub(super) source: IpAddr,
    /// The client's identity.
    pub(super) identity: SpiffeId,
}

/// Why a destination is not exempted.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Declined {
    #[error("pod {0} is unknown to the controller")]
    Unknown(String),
    #[error("{0} is not the address that the controller has for pod {1}")]
    Address(IpAddr, String),
    #[error("pod {0} has not exactly one address of the family of {1}")]
    Family(String, IpAddr),
    #[error("{0} is a service's")]
    Service(IpAddr),
    #[error("port {0} is the agent's")]
    AgentPort(u16),
    #[error("pod {0} takes no tunnels")]
    NoTunnel(String),
    #[error("pod {0} is behind a waypoint")]
    Waypoint(String),
    #[error("policy denies it: {0}")]
    Policy(Reason),
    #[error("an AUDIT policy, or one in dry run, wants each connection reported")]
    Reported,
}

/// Why a connection may not go on.
#[derive(Clone, Debug)]
pub(super) enum Denied {
    /// Policy says so.
    Policy(Verdict),
    /// The client is no longer who it was.
    Identity,
}

/// Judges whether the connects of `client` to `destination`, an address of `server`, may do without a tunnel.
pub(super) fn grant(
    snapshot: &Snapshot,
    client: &Pod,
    server: &Pod,
    destination: SocketAddr,
) -> Result<Grant, Declined> {
    let ip = destination.ip();
    if AGENT_PORTS.contains(&destination.port()) {
        return Err(Declined::AgentPort(destination.port()));
    }
    if snapshot.service_by_vip(ip).is_some() {
        return Err(Declined::Service(ip));
    }
    let target = owner(snapshot, server, ip)?;
    if target.waypoint {
        return Err(Declined::Waypoint(server.to_string()));
    }
    if target.tunnel != Tunnel::Hbone {
        return Err(Declined::NoTunnel(server.to_string()));
    }
    // Which of several the kernel will choose cannot be told beforehand.
    let mut family = client
        .addresses
        .iter()
        .filter(|a| a.is_ipv4() == ip.is_ipv4());
    let (Some(&source), None) = (family.next(), family.next()) else {
        return Err(Declined::Family(client.to_string(), ip));
    };
    let identity = owner(snapshot, client, source)?.identity();
    // No policy looks at the client's port.
    let verdict = decide(
        snapshot,
        &target,
        &identity,
        SocketAddr::new(source, 0),
        destination,
    );
    if !verdict.is_allow() {
        return Err(Declined::Policy(verdict.reason));
    }
    if snapshot.policies_for(&target).reports() {
        return Err(Declined::Reported);
    }
    Ok(Grant { source, identity })
}

/// Judges a connection that is open, from a client that was `identity` when it opened.
pub(super) fn judge(
    snapshot: &Snapshot,
    client: &Pod,
    server: &Pod,
    identity: Option<&SpiffeId>,
    (source, destination): (SocketAddr, SocketAddr),
) -> Result<Verdict, Denied> {
    let Some(target) = server.workload(snapshot) else {
        return Err(Denied::Policy(Verdict::unknown_destination()));
    };
    let current = client
        .workload(snapshot)
        .map(|workload| workload.identity());
    let Some(current) = current.filter(|current| identity.is_none_or(|then| then == current))
    else {
        return Err(Denied::Identity);
    };
    let verdict = decide(snapshot, &target, &current, source, destination);
    if verdict.is_allow() {
        Ok(verdict)
    } else {
        Err(Denied::Policy(verdict))
    }
}

fn decide(
    snapshot: &Snapshot,
    target: &Workload,
    identity: &SpiffeId,
    source: SocketAddr,
    destination: SocketAddr,
) -> Verdict {
    let connection = Connection {
        source,
        destination,
        principal: Some(identity),
    };
    policy::decide(&snapshot.policies_for(target), &connection)
}

/// The pod's workload, if the address is the pod's own and the controller says so too: what a pod finds in
/// its own namespace is not believed alone.
fn owner(snapshot: &Snapshot, pod: &Pod, ip: IpAddr) -> Result<Arc<Workload>, Declined> {
    let named = pod
        .workload(snapshot)
        .ok_or_else(|| Declined::Unknown(pod.to_string()))?;
    let addressed = snapshot.workload_by_ip(ip).map(|workload| &workload.uid);
    if addressed != Some(&named.uid) || !pod.addresses.contains(&ip) {
        return Err(Declined::Address(ip, pod.to_string()));
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
