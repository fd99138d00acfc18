//! Workloads that run elsewhere: they make a proxy's configuration as large as a large cluster's, and
//! are never called.

use anyhow::{Result, bail, ensure};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// They are spread over so many namespaces and nodes.
const NAMESPACES: usize = 100;
const PODS_PER_NODE: usize = 50;
/// How many workloads share a service account and a label `app`, as those of one deployment do.
const REPLICAS: usize = 10;
/// Their addresses follow this one.
const FIRST: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// How many addresses there are from there to the end of 10.0.0.0/8.
const ROOM: usize = 1 << 23;
/// What the namespaces' names begin with.
const NAMESPACE: &str = "crowd";

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Its service account and its label `app`.
    pub(super) app: String,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
}

impl Workload {
    /// Its name in the whole mesh.
    pub(super) fn uid(&self) -> String {
        format!("Kubernetes//Pod/{}/{}", self.namespace, self.name)
    }
}

/// What is in the uid of each, once, and in no other's.
pub(super) fn mark() -> String {
    format!("//Pod/{NAMESPACE}-")
}

/// The first `count` workloads of the crowd.
///
/// # Errors
/// When there are not so many addresses.
pub(super) fn workloads(count: usize) -> Result<impl Iterator<Item = Workload>> {
    ensure!(count <= ROOM, "{count} workloads are more than {ROOM}");
    Ok((0..count).map(|n| {
        let deployment = n / REPLICAS;
        let app = format!("app-{deployment:05}");
        Workload {
            namespace: format!("{NAMESPACE}-{:02}", deployment % NAMESPACES),
            name: format!("{app}-{:x}-{:02}", 0x7d5c_0000 + deployment, n % REPLICAS),
            app,
            node: format!("worker-{:04}", n / PODS_PER_NODE),
            addresses: vec![Ipv4Addr::from(FIRST + n as u32).into()],
        }
    }))
}

/// The Kubernetes objects (YAML) that describe them to a controller: namespaces in the mesh, pods that run.
pub(super) fn kubernetes(count: usize) -> Result<String> {
    let mut yaml = String::new();
    for number in 0..NAMESPACES {
        writeln!(
            yaml,
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}-{number:02}\n  \
             labels: {{istio.io/dataplane-mode: ambient}}"
        )?;
    }
    writeln!(yaml, "---\napiVersion: v1\nkind: PodList\nitems:")?;
    for workload in workloads(count)? {
        let Workload {
            namespace,
            name,
            app,
            node,
            addresses,
        } = &workload;
        let [address] = addresses[..] else {
            bail!("{} has not exactly one address", workload.uid());
        };
        writeln!(
            yaml,
            "- metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\n  \
             spec: {{nodeName: {node}, serviceAccountName: {app}, containers: [{{name: app, image: app}}]}}\n  \
             status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}"
        )?;
    }
    Ok(yaml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_workload_has_a_name_and_an_address_of_its_own() {
        let crowd: Vec<Workload> = workloads(100_000).unwrap().collect();
        let uids: BTreeSet<String> = crowd.iter().map(Workload::uid).collect();
        let addresses: BTreeSet<IpAddr> = crowd.iter().flat_map(|w| w.addresses.clone()).collect();
        assert_eq!((uids.len(), addresses.len()), (100_000, 100_000));
        assert!(uids.iter().all(|uid| uid.matches(&mark()).count() == 1));
        assert_eq!(crowd[300].addresses, [Ipv4Addr::new(10, 128, 1, 44)]);
        assert!(workloads(ROOM + 1).is_err());
    }

    #[test]
    fn the_objects_are_yaml_with_a_pod_for_each() {
        let documents = serde_norway::Deserializer::from_str(&kubernetes(25).unwrap())
            .map(|document| serde::Deserialize::deserialize(document).unwrap())
            .collect::<Vec<serde_json::Value>>();
        let pods = documents.last().unwrap()["items"].as_array().unwrap();
        assert_eq!(documents.len(), NAMESPACES + 1);
        assert_eq!(pods.len(), 25);
        assert_eq!(pods[24]["status"]["podIP"], "10.128.0.24");
        let ambient = |value: &serde_json::Value| {
            value["metadata"]["labels"]["istio.io/dataplane-mode"] == "ambient"
        };
        assert!(documents[..NAMESPACES].iter().all(ambient));
    }
}
