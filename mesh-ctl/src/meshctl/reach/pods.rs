//! Agents and controllers as pods, reached by port-forward through the API server.

use std::fmt;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Error};

use super::error::{AskError, Forbidden, ReachError, innermost};
use super::kubeconfig::Cluster;
use super::link::Link;
use super::peer::{Role, Target};

impl Role {
    const fn label(self) -> &'static str {
        match self {
            Self::Agent => "app.kubernetes.io/name=weft-node",
            Self::Controller => "app.kubernetes.io/name=weft-controller",
        }
    }

    /// Of the admin endpoints, on the pod's loopback.
    const fn port(self) -> u16 {
        match self {
            Self::Agent => 15000,
            Self::Controller => 15014,
        }
    }
}

/// A pod.
pub(super) struct PodTarget {
    client: Client,
    role: Role,
    namespace: String,
    pod: String,
    /// Of an agent.
    node: Option<String>,
    /// Why it cannot be asked at all.
    state: Option<String>,
}

impl Cluster {
    /// The pods of that role, in the order of their names.
    pub(super) async fn pods(&self, role: Role) -> Result<Vec<Target>, ReachError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.mesh_namespace);
        let listed = api.list(&ListParams::default().labels(role.label())).await;
        let pods = listed.map_err(|e| self.list_error(e))?.items;
        if pods.is_empty() && role == Role::Agent {
            return Err(ReachError::NoPods {
                label: role.label().to_owned(),
                namespace: self.mesh_namespace.clone(),
            });
        }
        let targets = pods.into_iter().filter(|pod| !has_ended(pod));
        let mut targets: Vec<_> = targets.map(|pod| self.target(role, &pod)).collect();
        targets.sort_by(|a, b| (a.name(), &a.pod).cmp(&(b.name(), &b.pod)));
        Ok(targets.into_iter().map(Target::Pod).collect())
    }

    fn target(&self, role: Role, pod: &Pod) -> PodTarget {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        PodTarget {
            client: self.client.clone(),
            role,
            namespace: self.mesh_namespace.clone(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            node: node.filter(|_| role == Role::Agent),
            state: not_running(pod),
        }
    }

    fn list_error(&self, error: Error) -> ReachError {
        match error {
            Error::Api(status) if status.code == 403 => ReachError::Forbidden(Forbidden {
                verb: "list pods",
                resource: "pods",
                namespace: self.mesh_namespace.clone(),
                verbs: "list",
                said: status.message.clone(),
            }),
            Error::Api(status) if status.code == 401 => ReachError::Unauthorized {
                server: self.server.clone(),
                reason: status.message.clone(),
            },
            other => ReachError::Api {
                server: self.server.clone(),
                reason: innermost(&other),
            },
        }
    }
}

impl PodTarget {
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// The node of an agent; of a controller the pod.
    pub(super) fn name(&self) -> &str {
        self.node.as_deref().unwrap_or(&self.pod)
    }

    /// A connection to its admin endpoints.
    pub(super) async fn forward(&self) -> Result<Link, AskError> {
        if let Some(state) = &self.state {
            return Err(AskError::Pod(state.clone()));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let port = self.role.port();
        let forwarded = api.portforward(&self.pod, &[port]).await;
        let mut forwarded = forwarded.map_err(|e| self.forward_error(e))?;
        let trouble = forwarded.take_error(port).map(FutureExt::boxed);
        let lost = || AskError::Forward(format!("it opened no stream for port {port}"));
        let stream = forwarded.take_stream(port).ok_or_else(lost)?;
        Link::new(stream, "localhost".to_owned(), trouble).await
    }

    fn forward_error(&self, error: Error) -> AskError {
        match error {
            Error::Api(status) if status.code == 403 => AskError::Forbidden(Forbidden {
                verb: "port-forward to pods",
                resource: "pods/portforward",
                namespace: self.namespace.clone(),
                verbs: "get, create",
                said: status.message.clone(),
            }),
            Error::Api(status) => AskError::Forward(status.message.trim().to_owned()),
            other => AskError::Forward(innermost(&other)),
        }
    }
}

impl fmt::Display for PodTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{}", self.namespace, self.pod)
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Evicted or completed: it stays as a record, and another takes its place.
fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

fn not_running(pod: &Pod) -> Option<String> {
    let phase = phase(pod).unwrap_or("Pending");
    if phase == "Running" {
        return None;
    }
    let containers = pod
        .status
        .iter()
        .flat_map(|s| &s.container_statuses)
        .flatten();
    let mut waiting = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let why = waiting
        .next()
        .map_or_else(String::new, |r| format!(" ({r})"));
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "the pod is {phase}{why}; see `kubectl describe pod {name}`"
    ))
}
