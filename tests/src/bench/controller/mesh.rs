//! A mesh of any size, as objects: namespaces of 500 pods, each a deployment of ten with a service and an
//! account of its own; mutual TLS everywhere.

use mesh_ctl::model::{
    Change, Labels, Meta, Mode, Namespace, Node, Object, ObjectName, Owner, PeerAuthentication,
    Pod, Service, ServicePort, Target,
};
use std::net::{IpAddr, Ipv4Addr};

/// Pods of a namespace.
const NAMESPACE: u32 = 500;
/// Pods of a deployment.
const DEPLOYMENT: u32 = 10;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many pods there are.
    pub workloads: u32,
    /// How many nodes they are spread over.
    pub nodes: u32,
}

/// All objects, as one change.
pub fn objects(size: Size) -> Vec<Change> {
    let nodes = (0..size.nodes).map(node);
    let namespaces = (0..size.workloads.div_ceil(NAMESPACE)).map(namespace);
    let services = (0..size.workloads.div_ceil(DEPLOYMENT)).map(service);
    let pods = (0..size.workloads).map(|number| pod(size, number, true));
    let strict = PeerAuthentication {
        meta: meta("istio-system", "default", Labels::new()),
        selector: None,
        mode: Mode::Strict,
        ports: [].into(),
    };
    let objects = nodes.chain(namespaces).chain(services).chain(pods);
    let objects = objects.chain([Object::PeerAuthentication(Box::new(strict))]);
    objects.map(Change::Set).collect()
}

/// A pod, ready or not.
pub fn pod(size: Size, number: u32, ready: bool) -> Object {
    let deployment = deployment(number);
    // Letters as in a name that Kubernetes gives.
    let name = format!("{deployment}-7d4b9c6f5d-{number:05x}");
    let labels = [
        ("app", deployment.clone()),
        ("pod-template-hash", "7d4b9c6f5d".into()),
        ("version", "v1".into()),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value));
    Object::Pod(Box::new(Pod {
        uid: String::new(),
        meta: meta(&namespace_name(number / NAMESPACE), &name, labels.into()),
        service_account: deployment.as_str().into(),
        node: node_name(number % size.nodes).into(),
        host_network: false,
        addresses: vec![IpAddr::V4(Ipv4Addr::from((10 << 24) + 1 + number))],
        ready,
        terminating: false,
        finished: false,
        owner: Some(Owner {
            kind: "ReplicaSet".into(),
            name: format!("{deployment}-7d4b9c6f5d"),
        }),
        ports: [("http".to_owned(), 8080)].into(),
        declared_ports: [8080].into(),
    }))
}

/// The name of a node.
pub(super) fn node_name(number: u32) -> String {
    format!("node-{number:04}")
}

fn deployment(pod: u32) -> String {
    format!("app-{:05}", pod / DEPLOYMENT)
}

fn namespace_name(number: u32) -> String {
    format!("team-{number:03}")
}

fn meta(namespace: &str, name: &str, labels: Labels) -> Meta {
    Meta {
        name: ObjectName::new(namespace, name),
        labels,
        created: Some(1_700_000_000),
    }
}

fn node(number: u32) -> Object {
    let zone = |labels: Labels| Node {
        meta: meta("", &node_name(number), labels),
        locality: mesh_ctl::model::Locality {
            region: "region-1".into(),
            zone: format!("zone-{}", number % 3),
            subzone: String::new(),
        },
    };
    Object::Node(zone(Labels::new()))
}

fn namespace(number: u32) -> Object {
    let label = ("istio.io/dataplane-mode".to_owned(), "ambient".to_owned());
    Object::Namespace(Namespace {
        meta: meta("", &namespace_name(number), [label].into()),
    })
}

fn service(number: u32) -> Object {
    let first = number * DEPLOYMENT;
    let app = deployment(first);
    let port = |port, target| ServicePort {
        name: String::new(),
        port,
        target,
    };
    Object::Service(Box::new(Service {
        meta: meta(&namespace_name(first / NAMESPACE), &app, Labels::new()),
        addresses: vec![IpAddr::V4(Ipv4Addr::from((11 << 24) + 1 + number))],
        headless: false,
        ports: vec![port(80, Target::Named("http".into()))],
        selector: Some([("app".to_owned(), app)].into()),
        publish_not_ready: false,
        local_only: false,
        distribution: None,
    }))
}
