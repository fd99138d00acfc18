//! Objects as YAML, made in an API server.

use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams,
};
use serde_json::{Value, json};

/// The resource of a document; EndpointSlices are as old as the server needs them.
pub(crate) fn resource(document: &Value) -> ApiResource {
    let (version, kind) = (&document["apiVersion"], &document["kind"]);
    let (version, kind) = (version.as_str().unwrap(), kind.as_str().unwrap());
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn api(client: &Client, resource: &ApiResource, document: &Value) -> Api<DynamicObject> {
    let of_cluster = ["Namespace", "Node", "ClusterRole", "ClusterRoleBinding"];
    let of_cluster = of_cluster.contains(&resource.kind.as_str());
    if of_cluster {
        return Api::all_with(client.clone(), resource);
    }
    let namespace = document["metadata"]["namespace"].as_str();
    Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource)
}

/// Creates the object; what the server made of it.
pub(crate) async fn create(client: &Client, document: &Value) -> Value {
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let api = api(client, &resource(document), document);
    let made = api.create(&PostParams::default(), &object).await;
    let made = made.unwrap_or_else(|e| panic!("{e}: {document}"));
    serde_json::to_value(made).unwrap()
}

/// Replaces the object's `spec`.
pub(crate) async fn change(client: &Client, document: &Value) {
    let api = api(client, &resource(document), document);
    let patch = json!([{"op": "add", "path": "/spec", "value": document["spec"]}]);
    let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(patch).unwrap());
    api.patch(name(document), &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Writes its status, as kubelet would.
pub(crate) async fn set_status(client: &Client, document: &Value) {
    let api = api(client, &resource(document), document);
    let patch = json!({"status": document["status"]});
    api.patch_status(
        name(document),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .unwrap();
}

/// Deletes it. A pod with a finalizer stays, and terminates.
pub(crate) async fn delete(client: &Client, document: &Value) {
    let api = api(client, &resource(document), document);
    let now = DeleteParams::default().grace_period(0);
    api.delete(name(document), &now).await.unwrap();
}

pub(crate) fn name(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap()
}

/// A namespace, a pod and policies, in short.
pub(crate) fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"istio.io/dataplane-mode": "ambient"}},
    })
}

pub(crate) fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "none"}]},
    })
}

pub(crate) fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// Removes everything that Weft reads and that is not the server's own.
pub(crate) async fn empty(client: &Client) {
    for (version, kind) in [
        ("v1", "Pod"),
        ("v1", "Service"),
        ("v1", "Node"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("security.istio.io/v1", "PeerAuthentication"),
    ] {
        let resource = resource(&json!({"apiVersion": version, "kind": kind}));
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        for object in all.list(&ListParams::default()).await.unwrap() {
            let document = json!({"metadata": object.metadata});
            let api = api(client, &resource, &document);
            let object = name(&document);
            if object == "kubernetes" {
                continue;
            }
            let free = json!({"metadata": {"finalizers": null}});
            api.patch(object, &PatchParams::default(), &Patch::Merge(&free))
                .await
                .unwrap();
            let now = DeleteParams::default().grace_period(0);
            // One that was already being deleted is gone with its last finalizer.
            match api.delete(object, &now).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(e) => panic!("cannot delete {kind} {object}: {e}"),
            }
        }
    }
}
