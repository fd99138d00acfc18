//! What there is of Weft in a cluster: by its labels, so that what other versions shipped is found as well, and
//! by name what controllers make.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{Api, DynamicObject, ListParams, TypeMeta};
use kube::core::NamespaceResourceScope;
use kube::{Error, Resource};
use serde::de::DeserializeOwned;

use super::super::cluster::{Cluster, Server};
use super::super::error::InstallError;
use super::super::object::{PART_OF, WEFT, is_ours, kind, resource};

/// Kinds of the mesh's namespace, in the order in which they are deleted; of each the versions, the first that
/// is served counts.
const NAMESPACED: &[(&[&str], &str)] = &[
    (&["apps/v1"], "DaemonSet"),
    (&["apps/v1"], "Deployment"),
    (&["monitoring.coreos.com/v1"], "PodMonitor"),
    (&["monitoring.coreos.com/v1"], "ServiceMonitor"),
    (&["policy/v1", "policy/v1beta1"], "PodDisruptionBudget"),
    (&["networking.k8s.io/v1"], "NetworkPolicy"),
    (&["v1"], "Service"),
    (&["v1"], "ConfigMap"),
    (&["v1"], "Secret"),
    (&["rbac.authorization.k8s.io/v1"], "RoleBinding"),
    (&["rbac.authorization.k8s.io/v1"], "Role"),
    (&["v1"], "ServiceAccount"),
];
/// Kinds of the whole cluster.
const OF_CLUSTER: &[(&str, &str)] = &[
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
];
const DEFINITION: (&str, &str) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
/// What controllers make in the mesh's namespace, with no label.
const MADE: &[(&str, &str, &str)] = &[
    ("v1", "Secret", AUTHORITY),
    ("coordination.k8s.io/v1", "Lease", "weft-root-bundle"),
    ("coordination.k8s.io/v1", "Lease", "weft-policy-status"),
];
/// The certificate authority.
const AUTHORITY: &str = "weft-ca";
/// The label of the root certificates that controllers publish.
const PUBLISHED: &str = "app.kubernetes.io/managed-by=weft";

/// What is shipped and labelled, but for definitions and the namespace.
pub(in crate::meshctl::install) async fn labelled(
    cluster: &Cluster,
    server: &Server,
) -> Result<Vec<DynamicObject>, InstallError> {
    let selector = format!("{PART_OF}={WEFT}");
    let mut found = Vec::new();
    for (versions, kind) in NAMESPACED {
        if let Some(version) = versions.iter().find(|version| server.serves(version)) {
            let namespace = Some(cluster.namespace.as_str());
            found.extend(list(cluster, version, kind, namespace, &selector).await?);
        }
    }
    for (version, kind) in OF_CLUSTER {
        found.extend(list(cluster, version, kind, None, &selector).await?);
    }
    Ok(found)
}

/// Everything that goes, the namespace last.
pub(super) async fn all(
    cluster: &Cluster,
    server: &Server,
    purge: bool,
) -> Result<Vec<DynamicObject>, InstallError> {
    let mut found = labelled(cluster, server).await?;
    found.extend(list(cluster, "v1", "ConfigMap", None, PUBLISHED).await?);
    for (version, kind, name) in MADE {
        found.extend(made(cluster, version, kind, name).await?);
    }
    if purge {
        let (version, kind) = DEFINITION;
        found.extend(list(cluster, version, kind, None, &format!("{PART_OF}={WEFT}")).await?);
    }
    if let Some(namespace) = namespace(cluster).await?
        && is_ours(&namespace)
        && foreign(cluster).await?.is_empty()
    {
        found.push(namespace);
    }
    Ok(found)
}

/// Says where else it is, if it is not in the mesh's namespace.
pub(super) async fn is_here(cluster: &Cluster) -> Result<(), InstallError> {
    let api: Api<DaemonSet> = Api::all(cluster.client.clone());
    let selector = format!("{PART_OF}={WEFT}");
    let listed = api.list(&ListParams::default().labels(&selector)).await;
    let listed = listed.map_err(|e| cluster.fault("list DaemonSets in all namespaces", e))?;
    let namespaces: Vec<_> = listed
        .into_iter()
        .filter_map(|found| found.metadata.namespace)
        .collect();
    match namespaces.first() {
        Some(found) if !namespaces.contains(&cluster.namespace) => Err(InstallError::Elsewhere {
            found: found.clone(),
            asked: cluster.namespace.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether it is the certificate authority.
pub(super) fn is_authority(object: &DynamicObject) -> bool {
    kind(object) == "Secret" && object.metadata.name.as_deref() == Some(AUTHORITY)
}

/// Why the namespace stays, if it does.
pub(super) async fn kept_namespace(cluster: &Cluster) -> Result<Option<String>, InstallError> {
    let Some(namespace) = namespace(cluster).await? else {
        return Ok(None);
    };
    let foreign = foreign(cluster).await?;
    let reason = match foreign.first() {
        Some(one) => format!("{one} in it is not Weft's"),
        None if is_ours(&namespace) => return Ok(None),
        None => "somebody else made it".to_owned(),
    };
    Ok(Some(format!(
        "the namespace {} stays: {reason}",
        cluster.namespace
    )))
}

async fn namespace(cluster: &Cluster) -> Result<Option<DynamicObject>, InstallError> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let got = api.get_opt(&cluster.namespace).await;
    let got = got.map_err(|e| cluster.fault(format!("get Namespace {}", cluster.namespace), e))?;
    Ok(got.map(|namespace| DynamicObject {
        types: Some(TypeMeta {
            api_version: "v1".into(),
            kind: "Namespace".into(),
        }),
        metadata: namespace.metadata,
        data: serde_json::Value::Null,
    }))
}

async fn made(
    cluster: &Cluster,
    version: &str,
    kind: &str,
    name: &str,
) -> Result<Option<DynamicObject>, InstallError> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        cluster.client.clone(),
        &cluster.namespace,
        &resource(version, kind),
    );
    let got = api.get_opt(name).await;
    let got =
        got.map_err(|e| cluster.fault(format!("get {kind} {}/{name}", cluster.namespace), e))?;
    Ok(got.map(|object| typed(object, version, kind)))
}

/// Those with these labels, in one namespace or in all.
async fn list(
    cluster: &Cluster,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    selector: &str,
) -> Result<Vec<DynamicObject>, InstallError> {
    let (client, resource) = (cluster.client.clone(), resource(version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    match api.list(&ListParams::default().labels(selector)).await {
        Ok(listed) => Ok(listed
            .into_iter()
            .map(|object| typed(object, version, kind))
            .collect()),
        // The group is served, and this kind of it is not.
        Err(Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(e) => Err(cluster.fault(format!("list {kind} objects"), e)),
    }
}

/// Lists do not repeat the type.
fn typed(mut object: DynamicObject, version: &str, kind: &str) -> DynamicObject {
    object.types = Some(TypeMeta {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
    });
    object
}

/// What runs, or keeps data, in the mesh's namespace and is not Weft's: reason enough to leave it.
async fn foreign(cluster: &Cluster) -> Result<Vec<String>, InstallError> {
    let mut found = others::<Deployment>(cluster).await?;
    found.extend(others::<StatefulSet>(cluster).await?);
    found.extend(others::<DaemonSet>(cluster).await?);
    found.extend(others::<Job>(cluster).await?);
    found.extend(others::<Pod>(cluster).await?);
    found.extend(others::<PersistentVolumeClaim>(cluster).await?);
    Ok(found)
}

async fn others<K>(cluster: &Cluster) -> Result<Vec<String>, InstallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = api
        .list(&ListParams::default().labels(&format!("{PART_OF}!={WEFT}")))
        .await;
    let listed = listed.map_err(|e| cluster.fault(format!("list {} objects", K::kind(&())), e))?;
    let name = |object: &K| object.meta().name.clone().unwrap_or_default();
    Ok(listed
        .iter()
        .map(|object| format!("{} {}", K::kind(&()), name(object)))
        .collect())
}
