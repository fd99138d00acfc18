//! Why nobody, or somebody, could not be asked.

use std::io;
use std::time::Duration;

use kube::Error;

use super::answers::Unreachable;
use crate::meshctl::Exit;

/// There is no way to the mesh.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Nothing says where the mesh is.
    #[error(
        "nothing says where the mesh is: there is no kubeconfig ({0}); give --kubeconfig FILE, or name the \
         agents with --node-url http://HOST:15000"
    )]
    NoKubeconfig(String),
    /// The kubeconfig may not be read.
    #[error(
        "kubeconfig {0}: no permission to read it; run as its owner, or give another with --kubeconfig"
    )]
    KubeconfigPermission(String),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {file}: {reason}; mend it, or give another with --kubeconfig")]
    Kubeconfig {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The kubeconfig has no such context.
    #[error("kubeconfig {file}: there is no context {name:?}{hint} (there are: {all})")]
    NoSuchContext {
        /// Which file.
        file: String,
        /// What was asked for.
        name: String,
        /// The nearest, as the end of a sentence.
        hint: String,
        /// All, separated by commas.
        all: String,
    },
    /// The kubeconfig has no current context, and none was asked for.
    #[error("kubeconfig {file}: no context is current; give --context NAME (there are: {all})")]
    NoContext {
        /// Which file.
        file: String,
        /// All, separated by commas.
        all: String,
    },
    /// The API server says that this may not be done.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The API server knows nothing of the caller.
    #[error(
        "the API server {server} does not accept these credentials: {reason}; renew them, or choose another --context"
    )]
    Unauthorized {
        /// Its URL.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The API server cannot be asked.
    #[error(
        "cannot list pods with the API server {server}: {reason}; check that it runs, and --context"
    )]
    Api {
        /// Its URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// There are no pods of that kind.
    #[error(
        "there are no pods with the label {label} in namespace {namespace}; check --mesh-namespace and --context"
    )]
    NoPods {
        /// `key=value`.
        label: String,
        /// Where they were looked for.
        namespace: String,
    },
    /// A controller is named by URL, and no agent is.
    #[error(
        "no agent is named: give --node-url URL too, or leave out --controller-url to find all by kubeconfig"
    )]
    NoNodeUrl,
    /// What is to be done is done by the API server.
    #[error(
        "this is done through the Kubernetes API server: leave out --node-url and --controller-url \
         (MESHCTL_NODE_URLS, MESHCTL_CONTROLLER_URLS)"
    )]
    NotByUrl,
    /// No agent serves that node.
    #[error("there is no agent on a node {0:?}{1}")]
    NoSuchNode(String, String),
    /// Not one answered.
    #[error("{}", none_answered(.0))]
    NoneAnswered(Vec<Unreachable>),
}

impl ReachError {
    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoSuchNode(..) => Exit::NotFound,
            Self::NoNodeUrl | Self::NotByUrl => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}

fn none_answered(all: &[Unreachable]) -> String {
    let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        many => format!("all {} failed:\n  {}", many.len(), many.join("\n  ")),
    }
}

/// A right is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no permission to {verb} in namespace {namespace} ({said}); needed is a Role there with the \
     rule {{apiGroups: [\"\"], resources: [{resource}], verbs: [{verbs}]}}"
)]
pub struct Forbidden {
    /// What was tried.
    pub verb: &'static str,
    /// The resource that a rule must name.
    pub resource: &'static str,
    /// Where.
    pub namespace: String,
    /// The verbs that the rule should have.
    pub verbs: &'static str,
    /// What the API server said.
    pub said: String,
}

/// One agent or controller was not asked with success.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens there.
    #[error("cannot connect: {}; check that it runs, and its --admin-addr", no_code(&.0.to_string()))]
    Connect(io::Error),
    /// The pod cannot be asked.
    #[error("{0}")]
    Pod(String),
    /// Port-forward is not permitted.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The API server did not forward.
    #[error("the API server cannot forward to the pod: {0}")]
    Forward(String),
    /// It took too long.
    #[error("no answer within {}; see --timeout", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection broke, or is no HTTP.
    #[error("{path}: the connection failed: {reason}; is this its admin address?")]
    Broken {
        /// What was asked for.
        path: String,
        /// What happened.
        reason: String,
    },
    /// It has no such endpoint.
    #[error("it has no {0}: it is older than this meshctl, or this is not its admin address")]
    NoEndpoint(String),
    /// It refused.
    #[error("{path}: it answered {status}: {said}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The first line of the body.
        said: String,
    },
    /// It says something that this program does not understand.
    #[error(
        "{path}: the answer is not what this meshctl reads: {reason}; use a meshctl of its version"
    )]
    Content {
        /// What was asked for.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// `Connection refused`, without `(os error 111)`.
pub(super) fn no_code(text: &str) -> String {
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text.to_owned(),
    }
}

/// The cause below all wrappers.
pub(in crate::meshctl) fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    no_code(&cause.to_string())
}
