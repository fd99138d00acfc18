//! Enrolment: which pods of this node are captured.
//!
//! A pod is in once its listeners stand, the kernel steers to them and the choice is on disk, in
//! that order; only then is the caller told. The local API is a unix socket that root alone can open; its callers
//! are people, the CNI plugin, and the agent that takes over from this one. In Kubernetes the reconciler does
//! for running pods what the plugin does for new ones.

mod answer;
mod api;
mod client;
mod hand_over;
mod manager;
mod process;
mod reconciler;
mod store;

pub use answer::{Answer, KnownPod, Verdict};
pub use api::{Api, Reply, Request};
pub use client::call;
pub use hand_over::{Predecessor, Superseded};
pub use manager::{EnrollError, Enrolled, Enrolment, NewPod};
pub use process::{NotFound, Processes};
pub use reconciler::Reconciler;
pub use store::{Store, StoreError, StoredPod};

/// Where the enrolment socket and the list of pods are by default.
pub const DEFAULT_RUN_DIR: &str = "/run/weft";
/// Where the controller's last answer is by default.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/weft";
/// Name of the enrolment socket in the run folder.
const SOCKET: &str = "node.sock";
