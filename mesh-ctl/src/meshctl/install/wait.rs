//! Waiting until what was applied is ready, with progress on standard error, and saying why it is not.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Error, ResourceExt as _};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::error::InstallError;
use super::object::{Id, kind};
use super::readiness::{Rollout, Why, daemon_set, deployment, why_not_ready};
use crate::meshctl::reach::innermost;

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) whole: Duration,
    until: Instant,
}

impl Patience {
    /// From now on.
    pub(super) fn new(whole: Duration) -> Self {
        Self {
            whole,
            until: Instant::now() + whole,
        }
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.until
    }
}

/// Progress, in lines: each is shown when it is news.
#[derive(Default)]
pub(super) struct Progress(Option<String>);

impl Progress {
    pub(super) fn show(&mut self, line: String) {
        if self.0.as_ref() != Some(&line) {
            eprintln!("{line}");
            self.0 = Some(line);
        }
    }
}

/// Until the API server serves these definitions.
pub(super) async fn until_served(
    cluster: &Cluster,
    definitions: &[&DynamicObject],
    patience: Patience,
) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    for object in definitions {
        let id = Id::of(object);
        loop {
            let definition = api.get(&id.name).await;
            let definition = definition.map_err(|e| cluster.fault(format!("get {id}"), e))?;
            let status = definition.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            if conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
            {
                break;
            }
            if patience.is_over() {
                let reasons = conditions.iter().filter(|c| c.status != "True");
                let reasons: Vec<_> = reasons.filter_map(|c| c.message.clone()).collect();
                return Err(InstallError::NotReady {
                    waited: patience.whole,
                    namespace: cluster.namespace.clone(),
                    missing: vec![format!("{id}: not served: {}", reasons.join("; "))],
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Until every Deployment and DaemonSet of these is rolled out.
pub(super) async fn until_ready(
    cluster: &Cluster,
    objects: &[&DynamicObject],
    patience: Patience,
) -> Result<(), InstallError> {
    let workloads = objects
        .iter()
        .filter(|object| ["Deployment", "DaemonSet"].contains(&kind(object)));
    let mut waiting: Vec<_> = workloads
        .map(|object| (Id::of(object), Progress::default()))
        .collect();
    loop {
        let mut left = Vec::new();
        for (id, mut progress) in waiting {
            let rollout = rollout(cluster, &id).await?;
            let mark = if rollout.done { "ready" } else { "waiting" };
            progress.show(format!("{mark}: {id}: {}", rollout.text));
            if !rollout.done {
                left.push((id, progress, rollout));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if patience.is_over() {
            let mut missing = Vec::new();
            for (id, _, rollout) in &left {
                missing.push(format!("{id}: {}", rollout.text));
                missing.extend(reasons(cluster, id).await);
            }
            return Err(InstallError::NotReady {
                waited: patience.whole,
                namespace: cluster.namespace.clone(),
                missing,
            });
        }
        waiting = left
            .into_iter()
            .map(|(id, progress, _)| (id, progress))
            .collect();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn rollout(cluster: &Cluster, id: &Id) -> Result<Rollout, InstallError> {
    let (client, namespace) = (cluster.client.clone(), &cluster.namespace);
    let got = if id.kind == "Deployment" {
        let api: Api<Deployment> = Api::namespaced(client, namespace);
        api.get(&id.name).await.map(|found| deployment(&found))
    } else {
        let api: Api<DaemonSet> = Api::namespaced(client, namespace);
        api.get(&id.name).await.map(|found| daemon_set(&found))
    };
    match got {
        Ok(rollout) => Ok(rollout),
        Err(e @ Error::Api(_)) => Err(cluster.fault(format!("get {id}"), e)),
        // The API server may be on its way back.
        Err(e) => Ok(Rollout {
            done: false,
            text: format!("not known: {}", innermost(&e)),
        }),
    }
}

/// Each pod of the workload that is not ready, and why; without any pod, what was said of the workload.
async fn reasons(cluster: &Cluster, id: &Id) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    // Weft's workloads have the name of their label.
    let selector = format!("app.kubernetes.io/name={}", id.name);
    let Ok(pods) = pods.list(&ListParams::default().labels(&selector)).await else {
        return vec!["  its pods cannot be listed".to_owned()];
    };
    if pods.items.is_empty() {
        let event = last_warning(cluster, &cluster.namespace, &id.kind, &id.name).await;
        return vec![format!(
            "  it has no pods: {}",
            event.unwrap_or_else(|| "no event tells why".into())
        )];
    }
    let mut lines = Vec::new();
    for pod in &pods {
        if let Some(why) = explained(cluster, pod).await {
            lines.push(format!("  {}: {why}", named(pod)));
        }
    }
    lines
}

/// `pod weft-node-x on n1`.
pub(super) fn named(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = node.map_or_else(String::new, |node| format!(" on {node}"));
    format!("pod {}{node}", pod.name_any())
}

/// Why a pod is not ready: its status if that tells, or else its last warning.
pub(super) async fn explained(cluster: &Cluster, pod: &Pod) -> Option<String> {
    match why_not_ready(pod)? {
        Why::Known(text) => Some(text),
        Why::Vague(text) => {
            let namespace = pod.namespace().unwrap_or_default();
            let event = last_warning(cluster, &namespace, "Pod", &pod.name_any()).await;
            Some(event.map_or(text.clone(), |event| format!("{text}; {event}")))
        }
    }
}

async fn last_warning(
    cluster: &Cluster,
    namespace: &str,
    kind: &str,
    name: &str,
) -> Option<String> {
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    let events = events
        .list(&ListParams::default().fields(&fields))
        .await
        .ok()?;
    let when = |event: &Event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or(event.event_time.as_ref().map(|time| time.0))
    };
    let last = events.items.iter().max_by_key(|event| when(event))?;
    let reason = last.reason.clone().unwrap_or_default();
    Some(format!(
        "{reason}: {}",
        last.message.as_deref().unwrap_or_default().trim()
    ))
}
