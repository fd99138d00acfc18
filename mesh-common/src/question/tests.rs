//! How questions are resolved, and what the mesh does before policy.

use std::net::IpAddr;

use super::*;
use crate::policy::Reason;
use crate::proto::security::{Action, Authorization, Scope};
use crate::proto::workload as wire;
use crate::snapshot::{Snapshot, SnapshotBuilder};
use wire::address::Type;

fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn pod(name: &str, account: &str, ips: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: format!("c//Pod/shop/{name}"),
        name: name.into(),
        namespace: "shop".into(),
        service_account: account.into(),
        node: "n1".into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        ..Default::default()
    }
}

fn behind(service: &str, target_port: u32, pod: wire::Workload) -> wire::Workload {
    let port = wire::Port {
        service_port: 80,
        target_port,
        app_protocol: 0,
    };
    let ports = wire::PortList { ports: vec![port] };
    let key = format!("shop/{service}.shop.svc.cluster.local");
    wire::Workload {
        services: [(key, ports)].into(),
        ..pod
    }
}

fn service(name: &str, vip: Option<&str>) -> wire::Service {
    let address = |ip| wire::NetworkAddress {
        address: bytes(ip),
        ..Default::default()
    };
    wire::Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local"),
        addresses: vip.into_iter().map(address).collect(),
        ports: vec![wire::Port {
            service_port: 80,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Clients and servers in one namespace; the node `n1` has 10.0.9.1.
fn mesh() -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    let host = wire::Workload {
        network_mode: wire::NetworkMode::HostNetwork.into(),
        tunnel_protocol: 0,
        ..pod("agent", "agent", &["10.0.9.1"])
    };
    let plain = wire::Workload {
        tunnel_protocol: 0,
        ..pod("plain", "batch", &["10.0.0.4"])
    };
    let far = wire::Workload {
        node: "n2".into(),
        ..behind("web", 8080, pod("web-2", "web", &["10.0.0.12"]))
    };
    let pods = [
        pod("a-1", "a", &["10.0.0.1", "fd00::1"]),
        pod("a-2", "a", &["10.0.0.2"]),
        pod("both", "both", &["10.0.0.3"]),
        behind("web", 8080, pod("web-1", "web", &["10.0.0.11", "fd00::11"])),
        behind("own", 7000, pod("own-1", "own", &["10.0.0.21"])),
        far,
        plain,
        host,
    ];
    let local = wire::Service {
        load_balancing: Some(wire::LoadBalancing {
            mode: wire::load_balancing::Mode::Strict.into(),
            routing_preference: vec![wire::load_balancing::Scope::Node.into()],
            ..Default::default()
        }),
        ..service("web", Some("10.96.0.1"))
    };
    let all = pods.map(Type::Workload).into_iter().chain([
        Type::Service(local),
        Type::Service(service("own", None)),
        Type::Service(service("both", Some("10.96.0.2"))),
    ]);
    for one in all {
        let name = match &one {
            Type::Workload(pod) => pod.uid.clone(),
            Type::Service(service) => format!("{}/{}", service.namespace, service.hostname),
        };
        let address = wire::Address { r#type: Some(one) };
        builder.upsert_address(&name, address).unwrap();
    }
    let nobody = Authorization {
        name: "nobody".into(),
        namespace: "shop".into(),
        scope: Scope::Namespace.into(),
        action: Action::Allow.into(),
        ..Default::default()
    };
    builder.upsert_policy("shop/nobody", nobody).unwrap();
    builder.to_snapshot()
}

fn names(clients: &[Client]) -> Vec<String> {
    clients.iter().map(Client::name).collect()
}

fn ask(from: &str, to: &str, port: u16) -> Answer {
    let question = Question {
        from: from.into(),
        to: to.into(),
        port,
    };
    answer(&mesh(), &question).unwrap()
}

/// What the mesh does with the only kind of connection, and why.
fn route(from: &str, to: &str, port: u16) -> (Route, String) {
    let answer = ask(from, to, port);
    let [case] = answer.cases.as_slice() else {
        panic!("{answer:?}")
    };
    (case.route, case.because.clone().unwrap_or_default())
}

#[test]
fn a_client_is_a_pod_an_address_or_the_pods_of_an_account() {
    let mesh = mesh();
    let found = |text: &str| names(&clients(&mesh, text).unwrap());
    for text in ["shop/a", "sa:shop/a"] {
        assert_eq!(found(text), ["shop/a-1", "shop/a-2"], "{text}");
    }
    for text in [
        "shop/a-1",
        "pod:shop/a-1",
        "10.0.0.1",
        "ip:fd00::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(found(text), ["shop/a-1"], "{text}");
    }
    assert_eq!(found("203.0.113.9"), ["203.0.113.9"]);
    assert_eq!(found("pod:shop/both"), ["shop/both"]);
    let error = |text: &str| clients(&mesh, text).unwrap_err().to_string();
    assert_eq!(
        error("shop/both"),
        "from shop/both is both a service account and a pod; write sa:shop/both or pod:shop/both"
    );
    assert!(error("shop/a-3").ends_with("; did you mean shop/a-1?"));
    assert!(error("ip:shop/a").contains("is no name"));
    assert!(error("a").contains("is no name"));
    assert_eq!(
        error("sa:ops/elsewhere"),
        "from: there is no service account with pods ops/elsewhere"
    );
}

#[test]
fn a_server_is_found_by_every_name_and_its_port_is_the_pods() {
    let mesh = mesh();
    let found = |text: &str, port| {
        let target = target(&mesh, text, port).unwrap();
        let address = |server: &Server| server.address.to_string();
        target.servers.iter().map(address).collect::<Vec<_>>()
    };
    let all = ["10.0.0.11:8080", "10.0.0.12:8080"];
    for text in [
        "shop/web",
        "svc:shop/web",
        "web.shop",
        "web.shop.svc",
        "host:web.shop.svc.cluster.local.",
        "10.96.0.1",
    ] {
        assert_eq!(found(text, 80), all, "{text}");
    }
    assert_eq!(found("shop/web-1", 9), ["10.0.0.11:9"]);
    assert_eq!(found("fd00::11", 9), ["[fd00::11]:9"]);
    // Clients of a headless service dial the pod: its port is what they say.
    assert_eq!(found("shop/own", 80), ["10.0.0.21:80"]);
    assert_eq!(found("shop/own", 7000), ["10.0.0.21:7000"]);
    let error = |text: &str, port| target(&mesh, text, port).unwrap_err().to_string();
    assert_eq!(
        error("shop/web", 81),
        "service shop/web has no port 81; it has 80"
    );
    assert!(error("shop/both", 80).ends_with("write pod:shop/both or svc:shop/both"));
    assert!(error("wbe.shop.svc.cluster.local", 80).contains("did you mean web.shop.svc"));
    assert!(error("pod:shop/web", 80).ends_with("did you mean shop/web-1?"));
}

#[test]
fn what_the_mesh_does_before_policy_is_said() {
    let enforced = |from: &str, to: &str| route(from, to, 80).0;
    assert_eq!(enforced("shop/a-1", "shop/web-1"), Route::MutualTls);
    assert_eq!(enforced("shop/plain", "shop/web-1"), Route::Plaintext);
    assert_eq!(enforced("203.0.113.9", "shop/web-1"), Route::Plaintext);
    for (from, to, port, expected, why) in [
        (
            "shop/a-1",
            "shop/plain",
            80,
            Route::NotEnforced,
            "not enrolled",
        ),
        (
            "shop/a-1",
            "198.51.100.1",
            80,
            Route::NotEnforced,
            "knows nothing",
        ),
        (
            "shop/a-1",
            "pod:shop/agent",
            80,
            Route::NotEnforced,
            "node's network",
        ),
        ("10.0.9.1", "shop/web-1", 80, Route::NotEnforced, "own node"),
        (
            "pod:shop/agent",
            "shop/web-1",
            80,
            Route::NotEnforced,
            "own node",
        ),
        (
            "shop/a-1",
            "shop/a-1",
            80,
            Route::NotEnforced,
            "own address",
        ),
        (
            "shop/a-1",
            "shop/web-1",
            15008,
            Route::Refused,
            "the agent's own",
        ),
    ] {
        let (route, because) = route(from, to, port);
        assert_eq!(route, expected, "{from} {to}: {because}");
        assert!(because.contains(why), "{from} {to}: {because}");
    }
    // From another node than the pod's, the node's address is any plaintext.
    assert_eq!(enforced("10.0.9.1", "shop/web-2"), Route::Plaintext);
}

#[test]
fn equal_connections_are_one_case_and_others_are_not() {
    let answer = ask("shop/a", "shop/web", 80);
    let routes: Vec<_> = answer.cases.iter().map(|case| case.route).collect();
    assert_eq!(
        routes,
        [Route::MutualTls, Route::Refused],
        "one endpoint is on another node"
    );
    assert_eq!(answer.outcome, Outcome::Denied);
    let explained = answer.cases[0].explanation.as_ref().unwrap();
    assert_eq!(explained.verdict.reason, Reason::NoAllowMatched);
    let clients: Vec<_> = answer.cases[0].clients.iter().map(|c| &*c.name).collect();
    assert_eq!(clients, ["shop/a-1", "shop/a-2"]);
    let answer = ask("shop/a", "shop/a-1", 80);
    assert_eq!(
        answer.outcome,
        Outcome::Mixed,
        "one of them is the server itself"
    );
}

#[test]
fn an_answer_is_the_same_after_its_way_as_json() {
    let answer = ask("shop/plain", "shop/web-1", 80);
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
}
