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
mod tests {
    use super::*;
    use crate::drain::Drain;
    use crate::sys::Netns;
    use mesh_common::proto::security::{Action, Authorization, Clause, Match, Rule, StringMatch};
    use mesh_common::proto::security::{Scope, string_match::MatchType};
    use mesh_common::proto::workload as wire;
    use mesh_common::proto::workload::address::Type;
    use mesh_common::snapshot::SnapshotBuilder;

    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 0, 2];

    fn pod(name: &str, addresses: &[&str]) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: name.into(),
            netns: Netns::open("/proc/self/ns/net").unwrap(),
            netns_path: "/proc/self/ns/net".into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            drain: Drain::new(),
        }
    }

    fn client() -> Pod {
        pod("client", &["10.0.0.1", "fd00::1"])
    }

    fn server() -> Pod {
        pod("server", &["10.0.0.2"])
    }

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from((SERVER, port))
    }

    fn workload(name: &str, address: [u8; 4]) -> wire::Workload {
        wire::Workload {
            uid: format!("Kubernetes//Pod/shop/{name}"),
            name: name.into(),
            namespace: "shop".into(),
            service_account: name.into(),
            addresses: vec![address.to_vec()],
            tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
            ..wire::Workload::default()
        }
    }

    /// The state of these workloads, in which `deny` is kept from everything in the namespace.
    fn state(workloads: [wire::Workload; 2], deny: Option<&str>) -> Snapshot {
        let mut builder = SnapshotBuilder::default();
        for workload in workloads {
            let uid = workload.uid.clone();
            let address = wire::Address {
                r#type: Some(Type::Workload(workload)),
            };
            builder.upsert_address(&uid, address).unwrap();
        }
        if let Some(account) = deny {
            let principal = format!("cluster.local/ns/shop/sa/{account}");
            let exact = StringMatch {
                match_type: Some(MatchType::Exact(principal)),
            };
            let matches = vec![Match {
                principals: vec![exact],
                ..Match::default()
            }];
            let policy = Authorization {
                name: "no".into(),
                namespace: "shop".into(),
                scope: Scope::Namespace.into(),
                action: Action::Deny.into(),
                rules: vec![Rule {
                    clauses: vec![Clause { matches }],
                }],
                ..Authorization::default()
            };
            builder.upsert_policy("shop/no", policy).unwrap();
        }
        builder.to_snapshot()
    }

    fn both() -> [wire::Workload; 2] {
        [workload("client", CLIENT), workload("server", SERVER)]
    }

    fn declined(state: &Snapshot, client: &Pod, server: &Pod, to: SocketAddr) -> String {
        grant(state, client, server, to).unwrap_err().to_string()
    }

    #[test]
    fn it_is_granted_to_the_clients_identity_and_address() {
        let granted = grant(
            &state(both(), Some("somebody")),
            &client(),
            &server(),
            to(80),
        );
        let granted = granted.unwrap();
        assert_eq!(granted.source, IpAddr::from(CLIENT));
        let identity = "spiffe://cluster.local/ns/shop/sa/client";
        assert_eq!(granted.identity.to_string(), identity);
    }

    #[test]
    fn policy_decides() {
        let state = state(both(), Some("client"));
        let why = declined(&state, &client(), &server(), to(80));
        assert!(why.starts_with("policy denies it"), "{why}");
    }

    #[test]
    fn what_the_controller_does_not_know_is_not_granted() {
        let none = Snapshot::default();
        let why = declined(&none, &client(), &server(), to(80));
        assert_eq!(why, "pod shop/server is unknown to the controller");
        let state = state(
            [workload("other", CLIENT), workload("server", SERVER)],
            None,
        );
        let why = declined(&state, &client(), &server(), to(80));
        assert_eq!(why, "pod shop/client is unknown to the controller");
    }

    #[test]
    fn an_address_must_be_the_pods_for_the_controller_and_in_its_namespace() {
        // The controller gives the address to another.
        let moved = [workload("other", SERVER), workload("server", [10, 0, 0, 3])];
        let why = declined(&state(moved, None), &client(), &server(), to(80));
        assert!(why.contains("10.0.0.2 is not the address"), "{why}");
        // The pod does not have it.
        let bare = pod("server", &["10.0.0.9"]);
        let why = declined(&state(both(), None), &client(), &bare, to(80));
        assert!(why.contains("10.0.0.2 is not the address"), "{why}");
        // The client took an address that the controller gave to another.
        let thief = pod("client", &["10.0.0.7"]);
        let why = declined(&state(both(), None), &thief, &server(), to(80));
        assert!(why.contains("10.0.0.7 is not the address"), "{why}");
    }

    #[test]
    fn a_client_with_a_choice_of_addresses_keeps_the_tunnel() {
        let two = pod("client", &["10.0.0.1", "10.0.0.7"]);
        let why = declined(&state(both(), None), &two, &server(), to(80));
        assert!(why.contains("not exactly one address"), "{why}");
        let six_only = pod("client", &["fd00::1"]);
        let why = declined(&state(both(), None), &six_only, &server(), to(80));
        assert!(why.contains("not exactly one address"), "{why}");
    }

    #[test]
    fn ways_that_lead_elsewhere_keep_the_tunnel() {
        for port in AGENT_PORTS {
            let why = declined(&state(both(), None), &client(), &server(), to(port));
            assert_eq!(why, format!("port {port} is the agent's"));
        }
        let mut clear = workload("server", SERVER);
        clear.tunnel_protocol = wire::TunnelProtocol::None.into();
        let state_clear = state([workload("client", CLIENT), clear], None);
        let why = declined(&state_clear, &client(), &server(), to(80));
        assert_eq!(why, "pod shop/server takes no tunnels");
        let mut behind = workload("server", SERVER);
        behind.waypoint = Some(wire::GatewayAddress::default());
        let state_behind = state([workload("client", CLIENT), behind], None);
        let why = declined(&state_behind, &client(), &server(), to(80));
        assert_eq!(why, "pod shop/server is behind a waypoint");
    }

    #[test]
    fn an_open_connection_is_judged_as_who_opened_it() {
        let ends = (SocketAddr::from((CLIENT, 40_000)), to(80));
        let was: SpiffeId = "spiffe://cluster.local/ns/shop/sa/client".parse().unwrap();
        let judged = |state: &Snapshot| judge(state, &client(), &server(), Some(&was), ends);
        assert!(judged(&state(both(), Some("somebody"))).unwrap().is_allow());
        match judged(&state(both(), Some("client"))) {
            Err(Denied::Policy(verdict)) => assert_eq!(verdict.policy.as_deref(), Some("shop/no")),
            other => panic!("{other:?}"),
        }
        let mut renamed = workload("client", CLIENT);
        renamed.service_account = "somebody".into();
        let renamed = state([renamed, workload("server", SERVER)], None);
        assert!(matches!(judged(&renamed), Err(Denied::Identity)));
        // A waypoint is no reason to cut what is open.
        let mut behind = workload("server", SERVER);
        behind.waypoint = Some(wire::GatewayAddress::default());
        let behind = state([workload("client", CLIENT), behind], None);
        assert!(judged(&behind).unwrap().is_allow());
        let gone = state(
            [workload("client", CLIENT), workload("other", SERVER)],
            None,
        );
        let Err(Denied::Policy(verdict)) = judged(&gone) else {
            panic!("the destination is unknown")
        };
        assert_eq!(verdict.reason, Reason::UnknownDestination);
    }
}
