//! `meshctl uninstall` against a real API server. The test plays what is missing around it: kubelets that run the
//! clean-up pods and end the others, and the controller that empties a namespace which is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, NAMESPACE, create, meshctl, running, set_status};
use crate::install::install;
use crate::{agent, kubelet};

const LABEL: &str = "istio.io/dataplane-mode";

/// What the rest of a cluster does, until it is dropped.
struct Around(JoinHandle<()>);

impl Drop for Around {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Around {
    /// Clean-up pods on `failing` fail.
    fn start(client: &Client, failing: Option<&'static str>) -> Self {
        let client = client.clone();
        Self(tokio::spawn(async move {
            loop {
                turn(&client, failing).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }))
    }
}

async fn turn(client: &Client, failing: Option<&str>) {
    let pods: Api<Pod> = Api::all(client.clone());
    let clean_up = ListParams::default().labels("app.kubernetes.io/name=weft-uninstall");
    for pod in pods.list(&clean_up).await.unwrap() {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        let status = if failing == Some(node.as_str()) {
            let state =
                json!({"terminated": {"exitCode": 1, "message": "cannot write: read-only\n"}});
            json!({"phase": "Failed", "initContainerStatuses": [{
                "name": "plugin", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]})
        } else {
            json!({"phase": "Succeeded"})
        };
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        // It may be deleted meanwhile.
        let status = kube::api::Patch::Merge(json!({"status": status}));
        let _ = api
            .patch_status(&pod.name_any(), &Default::default(), &status)
            .await;
    }
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    let controllers: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let agents = agents.get_opt("weft-node").await.unwrap().is_some();
    let controllers = controllers
        .get_opt("weft-controller")
        .await
        .unwrap()
        .is_some();
    for (there, app) in [(agents, "weft-node"), (controllers, "weft-controller")] {
        if !there {
            let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
            let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
            for pod in api.list(&selector).await.unwrap() {
                let now = DeleteParams::default().grace_period(0);
                let _ = api.delete(&pod.name_any(), &now).await;
            }
        }
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get_opt(NAMESPACE).await.unwrap();
    if let Some(mut namespace) = namespace
        && namespace.metadata.deletion_timestamp.is_some()
    {
        namespace.spec = None;
        let body = serde_json::to_vec(&namespace).unwrap();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/finalize");
        let request = http::Request::put(path).header("content-type", "application/json");
        let _ = client.request::<Value>(request.body(body).unwrap()).await;
    }
}

/// What controllers make, a namespace in the mesh, and two nodes.
async fn lived_in(cluster: &Cluster) {
    install(cluster, &[]).await;
    cluster.namespace("shop", &json!({LABEL: "ambient"})).await;
    let namespaced = |namespace: &str| (cluster.client.clone(), namespace.to_owned());
    for namespace in ["shop", NAMESPACE] {
        let (client, namespace) = namespaced(namespace);
        let map = json!({
            "metadata": {"name": "istio-ca-root-cert", "labels": {"app.kubernetes.io/managed-by": "weft"}},
        });
        create(Api::<ConfigMap>::namespaced(client, &namespace), &map).await;
    }
    let (client, namespace) = namespaced(NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    create(secrets, &json!({"metadata": {"name": "weft-ca"}})).await;
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    for name in ["weft-root-bundle", "weft-policy-status"] {
        create(leases.clone(), &json!({"metadata": {"name": name}})).await;
    }
    let policy = json!({"metadata": {"name": "kept"}, "spec": {}});
    let (client, _) = namespaced("shop");
    let policies: Api<DynamicObject> = Api::namespaced_with(client, "shop", &policies());
    let mut object: DynamicObject = serde_json::from_value(policy).unwrap();
    object.types = Some(kube::api::TypeMeta {
        api_version: "security.istio.io/v1".into(),
        kind: "AuthorizationPolicy".into(),
    });
    policies.create(&Default::default(), &object).await.unwrap();
    for name in ["n1", "n2"] {
        let port = kubelet::start(agent::start(name).await).await;
        cluster.node(name, port).await;
        cluster
            .agent(&format!("weft-node-{name}"), name, &running())
            .await;
    }
}

fn policies() -> ApiResource {
    ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
        "security.istio.io",
        "v1",
        "AuthorizationPolicy",
    ))
}

/// A kind whose definition was deleted is still named for a moment.
fn unless_gone<T>(answer: Result<T, kube::Error>) -> Option<T> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        answer => Some(answer.unwrap()),
    }
}

/// Every object of every kind that is Weft's by label or by name.
async fn left(client: &Client) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut groups = vec!["v1".to_owned()];
    for group in client.list_api_groups().await.unwrap().groups {
        groups.extend(
            group
                .versions
                .into_iter()
                .map(|version| version.group_version),
        );
    }
    for group_version in groups {
        let resources = if group_version == "v1" {
            client.list_core_api_resources("v1").await
        } else {
            client.list_api_group_resources(&group_version).await
        };
        let Some(resources) = unless_gone(resources) else {
            continue;
        };
        for resource in resources.resources {
            if resource.name.contains('/') || !resource.verbs.contains(&"list".to_owned()) {
                continue;
            }
            let (group, version) = group_version
                .split_once('/')
                .unwrap_or(("", &group_version));
            let kind = ApiResource {
                group: group.into(),
                version: version.into(),
                api_version: group_version.clone(),
                kind: resource.kind.clone(),
                plural: resource.name.clone(),
            };
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            let listed = unless_gone(all.list(&ListParams::default()).await);
            for object in listed.into_iter().flatten() {
                let is_weft = |key: &str| object.labels().get(key).is_some_and(|v| v == "weft");
                let name = object.name_any();
                if is_weft("app.kubernetes.io/part-of")
                    || is_weft("app.kubernetes.io/managed-by")
                    || name.starts_with("weft")
                    || name == "istio-ca-root-cert"
                {
                    found.insert(format!("{} {name}", resource.kind));
                }
            }
        }
    }
    found
}

fn set(entries: &[&str]) -> BTreeSet<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_nothing_but_policies_and_purging_not_even_these() {
    let cluster = Cluster::empty().await;
    lived_in(&cluster).await;
    let before = left(&cluster.client).await;

    let refused = cluster.meshctl(&["uninstall"]).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "error: still in the mesh: namespace shop; until the nodes are clean, their connections would be refused. Give \
         --unenrol to take them out first, as they run; or --force\n"
    );
    let plan = cluster
        .meshctl(&["uninstall", "--dry-run", "--purge"])
        .await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    for line in [
        "DaemonSet                 weft-system  weft-node                                would go",
        "Secret                    weft-system  weft-ca                                  would go",
        "ConfigMap                 shop         istio-ca-root-cert                       would go",
        "CustomResourceDefinition  -            authorizationpolicies.security.istio.io  would go",
        "Namespace                 -            weft-system                              would go",
    ] {
        assert!(
            plan.stdout.lines().any(|found| found == line),
            "{line}: {}",
            plan.stdout
        );
    }
    assert!(
        plan.stderr
            .contains("note: still in the mesh: namespace shop; --unenrol takes"),
        "{}",
        plan.stderr
    );
    assert_eq!(left(&cluster.client).await, before, "nothing was changed");

    let around = Around::start(&cluster.client, None);
    let gone = cluster.meshctl(&["uninstall", "--unenrol"]).await;
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    for line in [
        "taken out of the mesh: namespace shop",
        "note: Secret weft-system/weft-ca is the certificate authority: without a copy of it, another installation \
         begins with a new root, which nobody trusts yet",
        "note: policies and their definitions stay; --purge deletes those of Weft",
        "note: the folders /var/lib/weft and /run/weft stay on nodes; there is no secret in them",
    ] {
        assert!(
            gone.stderr.lines().any(|found| found == line),
            "{line}: {}",
            gone.stderr
        );
    }
    let definitions = set(&[
        "CustomResourceDefinition authorizationpolicies.security.istio.io",
        "CustomResourceDefinition peerauthentications.security.istio.io",
    ]);
    assert_eq!(left(&cluster.client).await, definitions);
    let kept: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), "shop", &policies());
    kept.get("kept").await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    assert_eq!(
        namespaces.get("shop").await.unwrap().labels().get(LABEL),
        None
    );

    let again = cluster.meshctl(&["uninstall"]).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(
        again.stderr,
        "note: there is nothing of Weft in this cluster\n"
    );
    // Nodes are cleaned again, in another namespace: what deleted the first may not have been this program.
    let purged = cluster.meshctl(&["uninstall", "--purge"]).await;
    assert_eq!(purged.code, Some(0), "{}", purged.stderr);
    assert_eq!(left(&cluster.client).await, BTreeSet::new());
    drop(around);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_cleaned_ends_it_unless_forced() {
    let cluster = Cluster::empty().await;
    lived_in(&cluster).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let message = "Kubelet stopped posting node status.";
    let condition = json!({"type": "Ready", "status": "Unknown", "message": message});
    set_status(nodes.clone(), "n2", &json!({"conditions": [condition]})).await;
    let before = left(&cluster.client).await;
    let refused = cluster.meshctl(&["uninstall", "--unenrol"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.starts_with(
            "error: what Weft left on these nodes cannot be removed:\n  n2: the node is not ready: Kubelet stopped \
             posting node status.\nbring them back, or delete them"
        ),
        "{}",
        refused.stderr
    );
    assert_eq!(left(&cluster.client).await, before, "nothing was changed");

    let around = Around::start(&cluster.client, Some("n1"));
    set_status(nodes.clone(), "n2", &json!({"conditions": null})).await;
    let failed = cluster.meshctl(&["uninstall", "--unenrol"]).await;
    assert_eq!(failed.code, Some(1));
    let reason = ": container plugin ended with code 1: cannot write: read-only\nbring them back";
    assert!(
        failed.stderr.contains("\n  n1: pod weft-uninstall-"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains(reason), "{}", failed.stderr);
    assert!(!failed.stderr.contains("\n  n2:"), "{}", failed.stderr);
    let now = left(&cluster.client).await;
    assert!(
        now.contains("Deployment weft-controller") && !now.contains("DaemonSet weft-node"),
        "{now:?}"
    );

    let condition = json!({"type": "Ready", "status": "False", "message": "it is off"});
    set_status(nodes, "n2", &json!({"conditions": [condition]})).await;
    drop(around);
    let around = Around::start(&cluster.client, None);
    let forced = cluster.meshctl(&["uninstall", "--force"]).await;
    assert_eq!(forced.code, Some(3), "{}", forced.stderr);
    let note = "note: not cleaned: n2: the node is not ready: it is off\n";
    assert!(forced.stderr.ends_with(note), "{}", forced.stderr);
    assert!(
        !left(&cluster.client)
            .await
            .contains("Namespace weft-system")
    );
    drop(around);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_something_else_in_it_stays() {
    let cluster = Cluster::empty().await;
    install(&cluster, &[]).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let other = json!({
        "metadata": {"name": "other"},
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    });
    create(pods.clone(), &other).await;
    let around = Around::start(&cluster.client, None);
    let gone = cluster.meshctl(&["uninstall"]).await;
    assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    let note = "note: the namespace weft-system stays: Pod other in it is not Weft's\n";
    assert!(gone.stderr.ends_with(note), "{}", gone.stderr);
    pods.get("other").await.unwrap();
    let left = left(&cluster.client).await;
    let kept = set(&[
        "CustomResourceDefinition authorizationpolicies.security.istio.io",
        "CustomResourceDefinition peerauthentications.security.istio.io",
        "Namespace weft-system",
    ]);
    assert_eq!(left, kept);
    drop(around);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_installation_and_missing_rights_are_named() {
    let cluster = Cluster::empty().await;
    install(&cluster, &["--mesh-namespace", "mesh"]).await;
    let output = cluster.meshctl(&["uninstall"]).await;
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.stderr,
        "error: Weft is installed in the namespace mesh, not in weft-system: give --mesh-namespace mesh\n"
    );
    cluster.namespace(NAMESPACE, &json!({})).await;
    let guest = cluster.account("guest").await;
    let refused = meshctl(&guest, &["uninstall"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stderr
            .starts_with("error: no permission to list DaemonSets in all namespaces ("),
        "{}",
        refused.stderr
    );
}
