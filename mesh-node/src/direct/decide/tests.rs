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
        uid: String::new(),
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
