//! A cluster with pods of agents, of which nobody runs anything but the test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use lab::kubernetes::{ControlPlane, ISSUER, token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::run::{self, Output};

pub(crate) const NAMESPACE: &str = "weft-system";

pub(crate) struct Cluster {
    pub(crate) control_plane: ControlPlane,
    pub(crate) client: Client,
}

pub(crate) async fn create<K>(api: Api<K>, object: &Value)
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object.clone()).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

pub(crate) async fn set_status<K>(api: Api<K>, name: &str, status: &Value)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

impl Cluster {
    /// One with the mesh's namespace in it.
    pub(crate) async fn start() -> Self {
        let cluster = Self::empty().await;
        cluster.namespace(NAMESPACE, &json!({})).await;
        cluster
    }

    /// One with nothing of a mesh in it.
    pub(crate) async fn empty() -> Self {
        let control_plane = ControlPlane::start().await.unwrap();
        let client = control_plane.client().await.unwrap();
        Self {
            control_plane,
            client,
        }
    }

    /// A namespace with those labels.
    pub(crate) async fn namespace(&self, name: &str, labels: &Value) {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        create(Api::<Namespace>::all(self.client.clone()), &object).await;
    }

    /// A node with a kubelet on that port of loopback.
    pub(crate) async fn node(&self, name: &str, kubelet: u16) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        create(nodes.clone(), &json!({"metadata": {"name": name}})).await;
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
        });
        set_status(nodes, name, &status).await;
    }

    /// A pod of an agent.
    pub(crate) async fn agent(&self, name: &str, node: &str, status: &Value) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let object = json!({
            "metadata": {"name": name, "labels": {
                "app.kubernetes.io/name": "weft-node", "app.kubernetes.io/part-of": "weft",
            }},
            "spec": {"nodeName": node, "containers": [{"name": "agent", "image": "weft"}]},
        });
        create(pods.clone(), &object).await;
        set_status(pods, name, status).await;
    }

    /// A kubeconfig for a new service account, which may do nothing.
    pub(crate) async fn account(&self, name: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        create(accounts, &json!({"metadata": {"name": name}})).await;
        let hour = Duration::from_secs(3600);
        let token = token(&self.client, (NAMESPACE, name), ISSUER, None, hour)
            .await
            .unwrap();
        self.kubeconfig(name, &token)
    }

    /// A kubeconfig with that token.
    pub(crate) fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let directory = self.control_plane.directory();
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "weft", "cluster": {
                "server": format!("https://{}", self.control_plane.address()),
                "certificate-authority": directory.join("ca.crt"),
            }}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": name}}],
            "current-context": "weft",
        });
        let file = directory.join(format!("{name}.kubeconfig"));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// What the administrator's `meshctl` says.
    pub(crate) async fn meshctl(&self, arguments: &[&str]) -> Output {
        meshctl(&self.control_plane.kubeconfig(), arguments).await
    }
}

/// What `meshctl` says with that kubeconfig.
pub(crate) async fn meshctl(kubeconfig: &Path, arguments: &[&str]) -> Output {
    let file = kubeconfig.to_string_lossy();
    let arguments = [&["--kubeconfig", &*file], arguments].concat();
    run::run(run::command(&arguments)).await
}

pub(crate) fn running() -> Value {
    json!({"phase": "Running"})
}
