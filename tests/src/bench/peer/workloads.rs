//! The workload file that a proxy reads instead of asking a controller.

use super::Member;
use crate::topology::{Lab, Node};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The file (YAML) that describes every member, each served by a proxy on its node.
pub(super) fn file(lab: &Lab, members: &[Member]) -> Result<String> {
    let workloads = members
        .iter()
        .map(|member| Ok(workload(member, lab.node(member.pod.node)?)))
        .collect::<Result<Vec<_>>>()?;
    serde_norway::to_string(&json!({"workloads": workloads})).context("cannot write YAML")
}

fn workload(member: &Member, node: &Node) -> Value {
    let pod = &member.pod;
    json!({
        "uid": member.uid(),
        "name": pod.name,
        "namespace": pod.namespace,
        "serviceAccount": member.account,
        "trustDomain": "cluster.local",
        "workloadIps": [pod.v4, pod.v6],
        "protocol": "HBONE",
        "node": node.name,
        "network": "",
        "clusterId": "Kubernetes",
        "canonicalName": pod.name,
        "canonicalRevision": "latest",
        "workloadName": pod.name,
        "workloadType": "pod",
        "services": {},
    })
}
