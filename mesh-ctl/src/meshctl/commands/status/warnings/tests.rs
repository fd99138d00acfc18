use std::time::Duration;

use mesh_common::admin::controller::{ControllerReport, NodeReport};
use mesh_common::admin::{ChainCertificate, ControllerStatus};

use super::super::sync::Sync;
use super::*;

const HOUR: u64 = 3600;

fn now() -> SystemTime {
    text::time("2026-01-02T00:00:00Z").unwrap()
}

/// That many hours from now.
fn hours(n: u64) -> String {
    humantime::format_rfc3339_seconds(now() + Duration::from_secs(n * HOUR)).to_string()
}

fn link() -> ControllerStatus {
    ControllerStatus {
        url: "https://weft:15012".into(),
        connected: true,
        state_age_seconds: Some(3 * HOUR),
        last_error: None,
    }
}

fn agent(node: &str) -> Agent {
    Agent {
        status: AgentStatus {
            version: CLIENT.into(),
            node: node.into(),
            started: "2026-01-01T00:00:00Z".into(),
            ready: true,
            controller: link(),
            pods: 1,
            connections: 0,
            tunnels: 0,
        },
        sync: Sync::Synced,
        certificates: Vec::new(),
    }
}

fn controller(nodes: Vec<NodeReport>) -> Controller {
    Controller {
        name: "weft-controller-0".into(),
        report: ControllerReport {
            version: CLIENT.into(),
            started: "2026-01-01T00:00:00Z".into(),
            ready: true,
            generation: 7,
            addresses: 1,
            policies: 0,
            nodes,
            warnings: Vec::new(),
        },
    }
}

fn connected(node: &str) -> NodeReport {
    NodeReport {
        node: node.into(),
        address: None,
        connected: "2026-01-01T00:00:00Z".into(),
        in_sync: true,
        refusal: None,
    }
}

/// A leaf of 24 hours and a root of 1,000 that end in so many hours.
fn certificate(leaf: u64, root: u64) -> CertificateStatus {
    let of = |role: &str, ends: u64, life: u64| ChainCertificate {
        role: role.into(),
        name: format!("the {role}"),
        serial: "0a".into(),
        not_before: humantime::format_rfc3339_seconds(
            text::time(&hours(ends)).unwrap() - Duration::from_secs(life * HOUR),
        )
        .to_string(),
        not_after: hours(ends),
    };
    CertificateStatus {
        identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        valid: true,
        chain: vec![of("leaf", leaf, 24), of("root", root, 1000)],
        key_exchanges: Vec::new(),
        last_error: None,
    }
}

#[test]
fn nothing_is_said_of_a_mesh_that_is_well() {
    // The state may be old: nothing has changed since.
    let mut agent = agent("node1");
    agent.certificates = vec![certificate(13, 900)];
    let controllers = [controller(vec![connected("node1")])];
    assert_eq!(all(&controllers, &[agent], now()), Vec::<String>::new());
}

#[test]
fn a_lost_controller_and_the_age_of_the_state_are_named() {
    let mut lost = agent("node1");
    lost.status.controller = ControllerStatus {
        connected: false,
        last_error: Some("connection refused".into()),
        ..link()
    };
    let mut never = agent("node2");
    never.status.ready = false;
    never.status.controller = ControllerStatus {
        connected: false,
        state_age_seconds: None,
        ..link()
    };
    assert_eq!(
        all(&[], &[lost, never], now()),
        [
            "node1: not connected to the controller https://weft:15012; it serves a state that is 3h old: \
             connection refused",
            "node2: the agent is not ready; see its log",
            "node2: not connected to the controller https://weft:15012; it has no state, and refuses all \
             connections",
        ]
    );
}

#[test]
fn versions_that_differ_are_named_with_who_has_them() {
    let mut old: Vec<_> = ["a", "b", "c", "d", "e"].map(agent).into();
    for agent in &mut old {
        agent.status.version = "0.0.9".into();
    }
    assert_eq!(
        all(&[controller(Vec::new())], &old, now()),
        [format!(
            "versions differ: 0.0.9 (a, b, c and 2 more), {CLIENT} (meshctl, controller weft-controller-0)"
        )]
    );
}

#[test]
fn refusals_and_what_is_not_enforced_are_passed_on_once() {
    let mut refusing = connected("node1");
    refusing.refusal = Some("policy \"shop/x\":\nscope 9 is unknown".into());
    let mut first = controller(vec![refusing]);
    first.report.warnings = vec!["policy shop/http: rule 0 needs L7".into()];
    let mut second = first.clone();
    second.report.nodes.clear();
    assert_eq!(
        all(&[first, second], &[agent("node1")], now()),
        [
            "node1: refused what the controller sent: policy \"shop/x\": scope 9 is unknown",
            "policy shop/http: rule 0 needs L7",
        ]
    );
}

#[test]
fn certificates_that_are_not_renewed_and_roots_that_end_soon_are_named() {
    let mut one = agent("node1");
    let mut failing = certificate(5, 200);
    failing.last_error = Some("the controller is gone".into());
    one.certificates = vec![failing];
    let mut two = agent("node2");
    let mut without = certificate(0, 200);
    without.valid = false;
    two.certificates = vec![without];
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    assert_eq!(
        all(&[], &[one, two], now()),
        [
            format!(
                "node1: the certificate of {web} ends in 5h and is not renewed: the controller is gone"
            ),
            format!("node2: {web} has no valid certificate"),
            "the root the root (serial 0a) ends in 8d8h; rotate it".to_owned(),
        ]
    );
}
