//! Why Weft was not installed or uninstalled.

use std::fmt::Display;
use std::time::Duration;

use kube::Error;

use super::object::Id;
use crate::meshctl::reach::innermost;

/// It did not succeed. The text names the object and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// What is embedded in this program cannot be used.
    #[error("the manifests in this meshctl are unusable: {0}; report it, and use another version")]
    Manifest(String),
    /// The API server knows nothing of the caller.
    #[error(
        "the API server {server} does not accept these credentials: {said}; renew them, or choose another --context"
    )]
    Unauthorized {
        /// Its URL.
        server: String,
        /// What it said.
        said: String,
    },
    /// A right is missing.
    #[error(
        "no permission to {doing} ({said}); installing and uninstalling take the rights of a cluster administrator: \
         choose another --context, or have the ClusterRole cluster-admin bound to you"
    )]
    Forbidden {
        /// What was tried.
        doing: String,
        /// What the API server said.
        said: String,
    },
    /// The API server did not do it.
    #[error("cannot {doing}: the API server says: {said}")]
    Refused {
        /// What was tried.
        doing: String,
        /// What the API server said.
        said: String,
    },
    /// There is no answer from the API server.
    #[error(
        "cannot {doing} with the API server {server}: {reason}; check that it runs, and --context"
    )]
    Unreachable {
        /// What was tried.
        doing: String,
        /// Its URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// Others manage what would be changed.
    #[error(
        "others manage what would be changed; nothing was:{}\ngive --force-conflicts to take these over, or change them where their \
         owner does",
        lines(.0)
    )]
    Conflicts(Vec<Conflict>),
    /// The kind is not there.
    #[error(
        "--pod-monitors: this cluster has no PodMonitor (monitoring.coreos.com/v1); install the Prometheus operator \
         first, or leave the option out"
    )]
    NoPodMonitor,
    /// What was applied does not become ready.
    #[error(
        "not ready after {}:{}\nwhat was applied stays, and `meshctl install` may be repeated; `kubectl -n {namespace} \
         describe pod NAME` tells more",
        humantime::format_duration(*.waited),
        lines(.missing)
    )]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// Where the pods are.
        namespace: String,
        /// What is missing, and why.
        missing: Vec<String>,
    },
    /// Pods are in the mesh.
    #[error(
        "still in the mesh: {0}; until the nodes are clean, their connections would be refused. Give --unenrol to take \
         them out first, as they run; or --force"
    )]
    Enrolled(String),
    /// Agents did not let go of pods.
    #[error(
        "agents still capture pods after {}:{}\n`meshctl status` tells whether they have what the controller sent; --force \
         goes on without them",
        humantime::format_duration(*.waited),
        lines(.agents)
    )]
    StillCaptured {
        /// How long it was waited for.
        waited: Duration,
        /// Which, and how many pods.
        agents: Vec<String>,
    },
    /// Nodes that nothing can be removed from.
    #[error(
        "what Weft left on these nodes cannot be removed:{}\nbring them back, or delete them (`kubectl delete node \
         NAME`), name an image that they find with --image, and repeat; or give --force, and run `mesh-cni uninstall` and `mesh-node uninstall` on them yourself",
        lines(.0)
    )]
    Nodes(Vec<String>),
    /// Another installation is meant.
    #[error(
        "Weft is installed in the namespace {found}, not in {asked}: give --mesh-namespace {found}"
    )]
    Elsewhere {
        /// Where it is.
        found: String,
        /// Where it was looked for.
        asked: String,
    },
    /// What was deleted does not go.
    #[error(
        "still there after {}:{}\nrepeat `meshctl uninstall` when they are gone",
        humantime::format_duration(*.waited),
        lines(.remaining)
    )]
    Remains {
        /// How long it was waited for.
        waited: Duration,
        /// What.
        remaining: Vec<String>,
    },
}

impl InstallError {
    /// What the API server, or the way to it, has against it.
    pub(super) fn of_api(server: &str, doing: String, error: Error) -> Self {
        match error {
            Error::Api(status) if status.code == 401 => Self::Unauthorized {
                server: server.to_owned(),
                said: status.message.clone(),
            },
            Error::Api(status) if status.code == 403 => Self::Forbidden {
                doing,
                said: status.message.clone(),
            },
            Error::Api(status) => Self::Refused {
                doing,
                said: status.message.trim().to_owned(),
            },
            other => Self::Unreachable {
                doing,
                server: server.to_owned(),
                reason: innermost(&other),
            },
        }
    }
}

/// A field that somebody else manages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field} is managed by {owner:?}")]
pub struct Conflict {
    /// Of this object.
    pub object: Id,
    /// Its path.
    pub field: String,
    /// The name by which the owner wrote it.
    pub owner: String,
}

fn lines<T: Display>(all: &[T]) -> String {
    all.iter().map(|one| format!("\n  {one}")).collect()
}
