//! The controller's input: a directory of Kubernetes YAML, each file replaced in one step.

use crate::topology::{Node, Pod};
use crate::{mesh::PodSpec, objects};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The directory and its files.
#[derive(Debug)]
pub struct Config {
    dir: PathBuf,
    drafts: PathBuf,
}

impl Config {
    /// An empty directory below `parent`.
    pub fn new(parent: &Path) -> Result<Self> {
        let config = Self {
            dir: parent.join("config"),
            drafts: parent.join("config-drafts"),
        };
        fs::create_dir_all(&config.dir)?;
        fs::create_dir_all(&config.drafts)?;
        Ok(config)
    }

    /// The directory that the controller reads.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes or replaces the file `name`.yaml.
    pub fn write(&self, name: &str, yaml: &str) -> Result<()> {
        let draft = self.drafts.join(format!("{name}.yaml"));
        fs::write(&draft, yaml).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, self.file(name)).with_context(|| format!("cannot replace {name}.yaml"))
    }

    /// Removes the file `name`.yaml.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.file(name)).with_context(|| format!("cannot remove {name}.yaml"))
    }

    /// A namespace; its workloads are in the mesh when `meshed`.
    pub fn namespace(&self, name: &str, meshed: bool) -> Result<()> {
        let labels: &[_] = if meshed {
            &[("istio.io/dataplane-mode", "ambient")]
        } else {
            &[]
        };
        self.object(
            &format!("namespace-{name}"),
            &objects::namespace(name, labels),
        )
    }

    /// A service account.
    pub fn service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let object = objects::service_account(namespace, name);
        self.object(&format!("serviceaccount-{namespace}-{name}"), &object)
    }

    /// A node.
    pub fn node(&self, node: &Node) -> Result<()> {
        self.object(&format!("node-{}", node.name), &objects::node(node))
    }

    /// A pod that runs and is ready.
    pub fn pod(&self, node: &Node, pod: &Pod, spec: &PodSpec<'_>) -> Result<()> {
        let name = format!("pod-{}-{}", pod.namespace, pod.name);
        self.object(&name, &objects::pod(node, pod, spec))
    }

    /// A pod that is to run, and has no network yet.
    pub fn scheduled_pod(&self, node: &Node, pod: &Pod, spec: &PodSpec<'_>) -> Result<()> {
        let name = format!("pod-{}-{}", pod.namespace, pod.name);
        self.object(&name, &objects::scheduled_pod(node, pod, spec))
    }

    /// A service in front of the pods that have the label `app`.
    pub fn service(
        &self,
        namespace: &str,
        name: &str,
        app: &str,
        vips: &[IpAddr],
        port: u16,
    ) -> Result<()> {
        let object = objects::service(namespace, name, app, vips, port);
        self.object(&format!("service-{namespace}-{name}"), &object)
    }

    /// The namespace's `PeerAuthentication`: `STRICT` or `PERMISSIVE`.
    pub fn peer_authentication(&self, namespace: &str, mode: &str) -> Result<()> {
        let object = objects::peer_authentication(namespace, mode);
        self.object(&format!("peerauthentication-{namespace}"), &object)
    }

    /// An `AuthorizationPolicy` with this `spec` (YAML).
    pub fn policy(&self, namespace: &str, name: &str, spec: &str) -> Result<()> {
        self.policy_with(namespace, name, &[], spec)
    }

    /// An `AuthorizationPolicy` with annotations.
    pub fn policy_with(
        &self,
        namespace: &str,
        name: &str,
        annotations: &[(&str, &str)],
        spec: &str,
    ) -> Result<()> {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let spec: Value = serde_norway::from_str(spec).context("the policy's spec is no YAML")?;
        let object = serde_json::json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": spec,
        });
        self.object(&policy_file(namespace, name), &object)
    }

    /// Removes a policy.
    pub fn remove_policy(&self, namespace: &str, name: &str) -> Result<()> {
        self.remove(&policy_file(namespace, name))
    }

    fn object(&self, name: &str, object: &Value) -> Result<()> {
        self.write(
            name,
            &serde_norway::to_string(object).context("cannot write YAML")?,
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
    }
}

fn policy_file(namespace: &str, name: &str) -> String {
    format!("authorizationpolicy-{namespace}-{name}")
}
