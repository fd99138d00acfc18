//! Enrolment: which pods of this node are captured.
//!
//! A pod is in once its listeners stand, the kernel steers to them and the choice is on disk, in
//! that order; only then is the caller told. The local API is a unix socket that root alone can open.

mod api;
mod client;
mod manager;
mod store;

pub use api::{Api, Reply, Request};
pub use client::call;
pub use manager::{EnrollError, Enrolled, Enrolment};
pub use store::{Store, StoreError, StoredPod};

/// Where the enrolment socket and the list of pods are by default.
pub const DEFAULT_RUN_DIR: &str = "/run/weft";
/// Name of the enrolment socket in the run folder.
const SOCKET: &str = "node.sock";
