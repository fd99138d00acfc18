//! What the controller's `GET /status` says: written by the controller, read by `meshctl`.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The controller itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerReport {
    /// Its version.
    pub version: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Whether it has read the configuration and serves.
    pub ready: bool,
    /// How often the mesh has changed since.
    pub generation: u64,
    /// How many workloads and services it serves.
    pub addresses: usize,
    /// How many policies it serves.
    pub policies: usize,
    /// The agents that are connected to it, the longest connected first.
    pub nodes: Vec<NodeReport>,
    /// What is not enforced as it was written; one line each.
    pub warnings: Vec<String>,
}

/// An agent that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its node.
    pub node: String,
    /// Where it connected from.
    pub address: Option<SocketAddr>,
    /// Since when it is connected, RFC 3339.
    pub connected: String,
    /// Whether it has answered all that it was sent.
    pub in_sync: bool,
    /// What it said when it refused the last that it was sent; none when it took it.
    pub refusal: Option<String>,
}
