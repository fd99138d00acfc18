//! Kubernetes objects, as an API server would show them.

use crate::mesh::PodSpec;
use crate::topology::{Node, Pod};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": map(labels)}})
}

pub(crate) fn service_account(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    })
}

pub(crate) fn node(node: &Node) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {
            "topology.kubernetes.io/region": "lab",
            "topology.kubernetes.io/zone": "lab-a",
        }},
        "status": {"addresses": [
            {"type": "InternalIP", "address": node.v4},
            {"type": "InternalIP", "address": node.v6},
        ]},
    })
}

pub(crate) fn pod(node: &Node, pod: &Pod, spec: &PodSpec<'_>) -> Value {
    let mut labels = map(spec.labels);
    labels.insert("app".to_owned(), spec.app.into());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid(),
            "labels": labels,
        },
        "spec": {
            "nodeName": node.name,
            "serviceAccountName": spec.account,
            "containers": [{"name": "app", "image": spec.app}],
        },
        "status": {
            "phase": "Running",
            "hostIP": node.v4,
            "hostIPs": [{"ip": node.v4}, {"ip": node.v6}],
            "podIP": pod.v4,
            "podIPs": [{"ip": pod.v4}, {"ip": pod.v6}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// The same before it has a network: kubelet has not made its sandbox yet.
pub(crate) fn scheduled_pod(node: &Node, pod: &Pod, spec: &PodSpec<'_>) -> Value {
    let mut object = self::pod(node, pod, spec);
    object["status"] = json!({"phase": "Pending"});
    object
}

pub(crate) fn service(namespace: &str, name: &str, app: &str, vips: &[IpAddr], port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": vips.first(),
            "clusterIPs": vips,
            "ipFamilyPolicy": "PreferDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "selector": {"app": app},
            "ports": [{"name": "main", "protocol": "TCP", "port": port, "targetPort": port}],
        },
    })
}

pub(crate) fn peer_authentication(namespace: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"mtls": {"mode": mode}},
    })
}

fn map(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect()
}
