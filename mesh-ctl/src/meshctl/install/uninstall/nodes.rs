//! Removing from each node what agents left there: by a pod, as nothing else reaches into a node.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{LocalObjectReference, Namespace, Node, Pod, PodSpec};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};

use super::super::cluster::Cluster;
use super::super::error::InstallError;
use super::super::manifests;
use super::super::wait::{PAUSE, Patience, Progress, explained};
use super::delete;

const AGENTS: &str = "weft-node";
const CONTROLLERS: &str = "weft-controller";
/// The agent's own container, and its image.
const AGENT: &str = "mesh-node";
const CONTROLLER: &str = "mesh-controller";
const SELECTOR: &str = "app.kubernetes.io/name=weft-uninstall";
/// Where the pods run when the mesh's namespace is gone already.
const FALLBACK_NAMESPACE: &str = "kube-system";
/// As many pods are made at the same time.
const AT_ONCE: usize = 16;

/// The nodes of a cluster.
pub(super) struct Nodes {
    usable: Vec<String>,
    /// Those that start no pod, and why.
    pub(super) lost: Vec<(String, String)>,
}

impl Nodes {
    pub(super) fn lost_names(&self) -> Vec<String> {
        self.lost.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A line for each that is lost.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.lost
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect()
    }
}

/// All nodes.
pub(super) async fn all(cluster: &Cluster) -> Result<Nodes, InstallError> {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.map_err(|e| cluster.fault("list nodes", e))?;
    let mut nodes = Nodes {
        usable: Vec::new(),
        lost: Vec::new(),
    };
    for node in listed {
        match not_ready(&node) {
            Some(why) => nodes.lost.push((node.name_any(), why)),
            None => nodes.usable.push(node.name_any()),
        }
    }
    Ok(nodes)
}

fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    let said = ready
        .message
        .as_deref()
        .or(ready.reason.as_deref())
        .unwrap_or_default();
    (ready.status != "True").then(|| format!("the node is not ready: {said}"))
}

/// With what the nodes are cleaned.
pub(super) struct Image {
    name: String,
    pull_policy: Option<String>,
    pull_secrets: Option<Vec<LocalObjectReference>>,
}

impl Image {
    /// The one that was asked for, or else that of the agents; where they are gone already, that beside the
    /// controllers', or that of this version.
    pub(super) async fn find(
        cluster: &Cluster,
        asked: Option<String>,
    ) -> Result<Self, InstallError> {
        let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let agents = agents.get_opt(AGENTS).await;
        let agents = agents.map_err(|e| cluster.fault(format!("get DaemonSet {AGENTS}"), e))?;
        let agents = agents.and_then(|agents| agents.spec.template.spec);
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let controllers = api.get_opt(CONTROLLERS).await;
        let controllers =
            controllers.map_err(|e| cluster.fault(format!("get Deployment {CONTROLLERS}"), e))?;
        let controllers = controllers.and_then(|controllers| controllers.spec.template.spec);
        let installed = agents.as_ref().and_then(|pod| image(pod, AGENT));
        let beside = || beside(&image(controllers.as_ref()?, CONTROLLER)?);
        let shipped = || format!("localhost/weft/{AGENT}:{}", env!("CARGO_PKG_VERSION"));
        let pod = agents.as_ref().or(controllers.as_ref());
        let container = pod.and_then(|pod| pod.containers.first());
        Ok(Self {
            name: asked.or(installed).or_else(beside).unwrap_or_else(shipped),
            pull_policy: container.and_then(|container| container.image_pull_policy.clone()),
            pull_secrets: pod.and_then(|pod| pod.image_pull_secrets.clone()),
        })
    }
}

fn image(pod: &PodSpec, container: &str) -> Option<String> {
    let mut containers = pod.containers.iter();
    containers.find(|one| one.name == container)?.image.clone()
}

/// The agents' image in the same repository with the same tag; of a digest nothing can be told.
fn beside(controller: &str) -> Option<String> {
    let (repository, last) = controller.rsplit_once('/')?;
    let tag = last.strip_prefix(CONTROLLER)?.strip_prefix(':')?;
    (!tag.contains('@')).then(|| format!("{repository}/{AGENT}:{tag}"))
}

/// Cleans every node that can be; those that are not clean then, and why.
pub(super) async fn clean(
    cluster: &Cluster,
    nodes: &Nodes,
    image: &Image,
    timeout: Duration,
) -> Result<Vec<String>, InstallError> {
    let namespace = namespace(cluster).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    delete::pods(cluster, &pods, SELECTOR).await?;
    let made = nodes.usable.iter().map(async |node| {
        let pod = pod(&namespace, node, image)?;
        let made = pods.create(&PostParams::default(), &pod).await;
        let made =
            made.map_err(|e| cluster.fault(format!("make a clean-up pod on node {node}"), e))?;
        Ok::<_, InstallError>((node.as_str(), made.name_any()))
    });
    let made = futures::stream::iter(made).buffer_unordered(AT_ONCE);
    let mut waiting: Vec<(&str, String)> = made.try_collect().await?;
    waiting.sort();
    let unclean = until_clean(cluster, &pods, waiting, timeout).await?;
    if unclean.is_empty() {
        delete::pods(cluster, &pods, SELECTOR).await?;
    }
    // Those that failed stay with their logs.
    Ok([nodes.reasons(), unclean].concat())
}

/// A pod in a namespace that is going cannot be made.
async fn namespace(cluster: &Cluster) -> Result<String, InstallError> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let got = api.get_opt(&cluster.namespace).await;
    let got = got.map_err(|e| cluster.fault(format!("get Namespace {}", cluster.namespace), e))?;
    let stays = got.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    Ok(if stays {
        cluster.namespace.clone()
    } else {
        FALLBACK_NAMESPACE.to_owned()
    })
}

fn pod(namespace: &str, node: &str, image: &Image) -> Result<Pod, InstallError> {
    let unusable = |e: serde_json::Error| InstallError::Manifest(e.to_string());
    let value = serde_json::to_value(manifests::uninstall_pod()?).map_err(unusable)?;
    let mut pod: Pod = serde_json::from_value(value).map_err(unusable)?;
    pod.metadata.namespace = Some(namespace.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    spec.image_pull_secrets.clone_from(&image.pull_secrets);
    let first = spec.init_containers.iter_mut().flatten();
    for container in first.chain(&mut spec.containers) {
        container.image = Some(image.name.clone());
        container.image_pull_policy.clone_from(&image.pull_policy);
    }
    Ok(pod)
}

/// Until every pod has ended; those that did not succeed, and why.
async fn until_clean(
    cluster: &Cluster,
    api: &Api<Pod>,
    mut waiting: Vec<(&str, String)>,
    timeout: Duration,
) -> Result<Vec<String>, InstallError> {
    let patience = Patience::new(timeout);
    let mut progress = Progress::default();
    let mut unclean = Vec::new();
    let whole = waiting.len();
    loop {
        let listed = api.list(&ListParams::default().labels(SELECTOR)).await;
        let listed = listed.map_err(|e| cluster.fault("list clean-up pods", e))?;
        let mut left = Vec::new();
        for (node, name) in waiting {
            let pod = listed.iter().find(|pod| pod.name_any() == name);
            let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            match (pod, phase) {
                (None, _) => unclean.push(format!("{node}: somebody deleted the pod {name}")),
                (Some(_), Some("Succeeded")) => {}
                (Some(pod), phase) if phase == Some("Failed") || patience.is_over() => {
                    let why = explained(cluster, pod).await;
                    let why = why.unwrap_or_else(|| "it does not end".to_owned());
                    unclean.push(format!("{node}: pod {name}: {why}"));
                }
                _ => left.push((node, name)),
            }
        }
        if left.is_empty() {
            return Ok(unclean);
        }
        progress.show(format!("cleaning nodes: {} of {whole}", whole - left.len()));
        waiting = left;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_image_is_found_beside_the_controllers() {
        for (controller, agents) in [
            (
                "r.example.org:5000/a/mesh-controller:1",
                Some("r.example.org:5000/a/mesh-node:1"),
            ),
            (
                "localhost/weft/mesh-controller:0.1.0",
                Some("localhost/weft/mesh-node:0.1.0"),
            ),
            ("localhost/weft/mesh-controller@sha256:00", None),
            ("localhost/weft/mesh-controller:1@sha256:00", None),
            ("localhost/weft/another:1", None),
            ("mesh-controller:1", None),
        ] {
            assert_eq!(beside(controller).as_deref(), agents, "{controller}");
        }
    }
}
