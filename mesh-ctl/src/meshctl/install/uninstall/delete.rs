//! Deletes objects, and waits until they are gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::{Error, ResourceExt as _};

use super::super::cluster::Cluster;
use super::super::error::InstallError;
use super::super::object::Id;
use super::super::wait::{PAUSE, Patience, Progress, named};

/// Deletes them, with what they own. One that is gone is no error.
pub(super) async fn all<'a>(
    cluster: &Cluster,
    objects: impl IntoIterator<Item = &'a DynamicObject>,
) -> Result<(), InstallError> {
    for object in objects {
        let id = Id::of(object);
        match cluster
            .api(object)
            .delete(&id.name, &DeleteParams::background())
            .await
        {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(e) => return Err(cluster.fault(format!("delete {id}"), e)),
        }
    }
    Ok(())
}

/// Until none of them is there.
pub(super) async fn until_gone(
    cluster: &Cluster,
    objects: &[&DynamicObject],
    patience: Patience,
) -> Result<(), InstallError> {
    let mut waiting = objects.to_vec();
    loop {
        let mut left = Vec::new();
        for object in waiting {
            let id = Id::of(object);
            let got = cluster.api(object).get_metadata_opt(&id.name).await;
            let got = got.map_err(|e| cluster.fault(format!("get {id}"), e))?;
            // One of the same name that is not the same was made since, by somebody else.
            if got.is_some_and(|now| now.metadata.uid == object.metadata.uid) {
                left.push(object);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if patience.is_over() {
            let remaining = left
                .iter()
                .map(|object| Id::of(object).to_string())
                .collect();
            return Err(InstallError::Remains {
                waited: patience.whole,
                remaining,
            });
        }
        waiting = left;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until no pod with that name label is left. Those of nodes that are lost are deleted from the API server alone:
/// nobody there could say that they ended.
pub(super) async fn until_no_pods(
    cluster: &Cluster,
    name: &str,
    lost: &[String],
    timeout: Duration,
) -> Result<(), InstallError> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
    let patience = Patience::new(timeout);
    let mut progress = Progress::default();
    loop {
        let listed = api.list(&selector).await;
        let listed = listed.map_err(|e| cluster.fault("list pods", e))?;
        let is_lost = |pod: &&Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node.is_some_and(|node| lost.contains(node))
        };
        let (orphans, left): (Vec<_>, Vec<_>) = listed.iter().partition(is_lost);
        for pod in orphans {
            at_once(cluster, &api, pod).await?;
        }
        if left.is_empty() {
            return Ok(());
        }
        if patience.is_over() {
            let remaining = left.into_iter().map(named).collect();
            return Err(InstallError::Remains {
                waited: timeout,
                remaining,
            });
        }
        progress.show(format!("waiting: {} pods of {name} to end", left.len()));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes the pods with these labels, which have done their work, or will not.
pub(super) async fn pods(
    cluster: &Cluster,
    api: &Api<Pod>,
    selector: &str,
) -> Result<(), InstallError> {
    let listed = api.list(&ListParams::default().labels(selector)).await;
    for pod in &listed.map_err(|e| cluster.fault("list pods", e))? {
        at_once(cluster, api, pod).await?;
    }
    Ok(())
}

/// Without waiting for its node to say that it ended.
async fn at_once(cluster: &Cluster, api: &Api<Pod>, pod: &Pod) -> Result<(), InstallError> {
    let now = DeleteParams::default().grace_period(0);
    match api.delete(&pod.name_any(), &now).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(e) => Err(cluster.fault(format!("delete {}", named(pod)), e)),
    }
}
