//! Who is in the mesh, and taking them out of it while agents run.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use mesh_common::admin::AgentStatus;
use serde_json::json;

use super::super::DATAPLANE_MODE;
use super::super::cluster::Cluster;
use super::super::error::InstallError;
use super::super::wait::{PAUSE, Patience, Progress};
use super::Args;
use crate::meshctl::reach::{Reach, ReachError};

/// As many names are told.
const SHOWN: usize = 10;
/// Agents are told within two seconds; much later, something is wrong.
const LONGEST: Duration = Duration::from_secs(60);
/// So long an agent may take to say how many pods it has.
const FOR_EACH: Duration = Duration::from_secs(10);

/// Namespaces, and pods by a label of their own.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    namespaces: Vec<String>,
    /// With their namespaces.
    pods: Vec<(String, String)>,
}

impl Enrolled {
    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.pods.is_empty()
    }
}

impl fmt::Display for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods = self
            .pods
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"));
        let parts = [
            ("namespace", "namespaces", self.namespaces.clone()),
            ("pod", "pods", pods.collect()),
        ];
        let told = parts.iter().filter(|(.., names)| !names.is_empty());
        let told = told.map(|(one, many, names)| {
            let what = if names.len() == 1 { one } else { many };
            let more = names.len().saturating_sub(SHOWN);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let shown: Vec<_> = names.iter().take(SHOWN).map(String::as_str).collect();
            format!("{what} {}{more}", shown.join(", "))
        });
        f.write_str(&told.collect::<Vec<_>>().join("; "))
    }
}

/// Who is in the mesh by a label.
pub(super) async fn enrolled(cluster: &Cluster) -> Result<Enrolled, InstallError> {
    let selector = ListParams::default().labels(&format!("{DATAPLANE_MODE}=ambient"));
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespaces = namespaces.list(&selector).await;
    let namespaces = namespaces.map_err(|e| cluster.fault("list namespaces", e))?;
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let pods = pods.list(&selector).await;
    let pods = pods.map_err(|e| cluster.fault("list pods in all namespaces", e))?;
    Ok(Enrolled {
        namespaces: namespaces.iter().map(ResourceExt::name_any).collect(),
        pods: pods
            .iter()
            .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any()))
            .collect(),
    })
}

/// Takes the label off all of them.
pub(super) async fn end(cluster: &Cluster, enrolled: &Enrolled) -> Result<(), InstallError> {
    let patch = Patch::Merge(json!({"metadata": {"labels": {DATAPLANE_MODE: null}}}));
    let parameters = PatchParams::default();
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    for name in &enrolled.namespaces {
        let patched = namespaces.patch_metadata(name, &parameters, &patch).await;
        patched.map_err(|e| cluster.fault(format!("take the label off namespace {name}"), e))?;
    }
    for (namespace, name) in &enrolled.pods {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        match pods.patch_metadata(name, &parameters, &patch).await {
            Ok(_) => {}
            // It ended by itself.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(e) => {
                return Err(cluster.fault(format!("take the label off pod {namespace}/{name}"), e));
            }
        }
    }
    eprintln!("taken out of the mesh: {enrolled}");
    Ok(())
}

/// Until no agent that answers has a pod. Those that do not answer capture nobody who could be asked.
pub(super) async fn until_released(reach: &Reach, args: &Args) -> Result<(), InstallError> {
    let patience = Patience::new(args.timeout.min(LONGEST));
    let reach = reach.within(FOR_EACH);
    let mut progress = Progress::default();
    loop {
        let answers = reach
            .agents(async |agent| agent.get::<AgentStatus>("/status").await)
            .await;
        let answers = match answers {
            Ok(answers) => answers,
            Err(ReachError::NoPods { .. }) => return Ok(()),
            Err(e) => {
                eprintln!("warning: agents cannot be asked whether pods have left: {e}");
                return Ok(());
            }
        };
        let busy = answers.of.iter().filter(|(_, status)| status.pods > 0);
        let busy: Vec<_> = busy
            .map(|(node, status)| format!("agent {node}: {} pods", status.pods))
            .collect();
        if busy.is_empty() {
            answers.warn();
            return Ok(());
        }
        if patience.is_over() {
            if args.force {
                eprintln!("warning: agents still capture pods: {}", busy.join(", "));
                return Ok(());
            }
            return Err(InstallError::StillCaptured {
                waited: patience.whole,
                agents: busy,
            });
        }
        progress.show(format!("waiting for pods to leave: {}", busy.join(", ")));
        tokio::time::sleep(PAUSE).await;
    }
}
