//! The workload file that a proxy reads instead of asking a controller.

use super::{Member, Pods};
use crate::bench::crowd::{self, Workload};
use crate::topology::Lab;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The file (YAML) that describes all of them, each served by a proxy on its node.
pub(super) fn file(lab: &Lab, pods: &Pods<'_>) -> Result<String> {
    let described = |member: &Member| {
        let pod = &member.pod;
        Ok(describe(&Workload {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            app: member.account.clone(),
            node: lab.node(pod.node)?.name.clone(),
            addresses: pod.addresses().to_vec(),
        }))
    };
    let members = pods.members.iter().chain(pods.waiting);
    let mut workloads = members.map(described).collect::<Result<Vec<_>>>()?;
    workloads.extend(crowd::workloads(pods.crowd)?.map(|workload| describe(&workload)));
    serde_norway::to_string(&json!({"workloads": workloads})).context("cannot write YAML")
}

fn describe(workload: &Workload) -> Value {
    json!({
        "uid": workload.uid(),
        "name": workload.name,
        "namespace": workload.namespace,
        "serviceAccount": workload.app,
        "trustDomain": "cluster.local",
        "workloadIps": workload.addresses,
        "protocol": "HBONE",
        "node": workload.node,
        "network": "",
        "clusterId": "Kubernetes",
        "canonicalName": workload.app,
        "canonicalRevision": "latest",
        "workloadName": workload.name,
        "workloadType": "pod",
        "services": {},
    })
}
