//! What the agent's admin endpoints say: written by the agent, read by `meshctl`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`AgentStatus`] |
//! | `GET /connections` | list of [`ConnectionStatus`] |
//! | `GET /certificates` | list of [`CertificateStatus`] |
//! | `GET /workloads`, `/services`, `/policies`, `/pods` | the list of that name in `/config_dump` |
//! | `GET /logging` | [`Logging`] |
//! | `PUT /logging` with a [`Logging`] | [`Logging`], as it is in force from now on |
//! | `GET /policy/explain?from=&to=&port=` | what the agent would decide, and why |
//! | `GET /config_dump` | all of the above that describes state, as one object |
//!
//! An answer other than 200 has a body of one line that says what is wrong and what to do.

pub mod controller;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

use crate::identity::SpiffeId;

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// The node that it serves, as the controller knows it.
    pub node: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Whether it serves.
    pub ready: bool,
    /// Its link to the controller.
    pub controller: ControllerStatus,
    /// How many pods are enrolled here.
    pub pods: usize,
    /// How many connections of theirs are alive.
    pub connections: usize,
    /// How many outbound tunnels are open.
    pub tunnels: usize,
}

/// The agent's link to its controller.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// Where the controller is.
    pub url: String,
    /// Whether the discovery stream stands.
    pub connected: bool,
    /// Seconds since the last state; none before the first.
    pub state_age_seconds: Option<u64>,
    /// Why the stream does not stand, or did not the last time.
    pub last_error: Option<String>,
}

/// Which end of a connection is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The server's.
    Inbound,
    /// The client's.
    Outbound,
}

/// One connection that is alive.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Which end is here.
    pub direction: Direction,
    /// The client.
    pub source: PartyStatus,
    /// The server.
    pub destination: PartyStatus,
    /// The hostname of the service that was dialled, when there was one.
    pub service: Option<String>,
    /// `mutual_tls`, `direct` or `none`, as in the access log.
    pub security: String,
    /// What policy says of it now; none at an end that does not decide.
    pub verdict: Option<VerdictStatus>,
    /// Bytes from the client to the server.
    pub bytes_from_client: u64,
    /// Bytes from the server to the client.
    pub bytes_to_client: u64,
    /// How long it has been open, seconds.
    pub age_seconds: u64,
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartyStatus {
    /// The application's address.
    pub address: SocketAddr,
    /// Kubernetes namespace of the workload there.
    pub namespace: Option<String>,
    /// Its name.
    pub workload: Option<String>,
    /// Its identity.
    pub identity: Option<SpiffeId>,
}

/// What policy says of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictStatus {
    /// `allow` or `deny`.
    pub action: String,
    /// The policy that decided, `namespace/name`.
    pub policy: Option<String>,
    /// The rule of that policy, counted from 0.
    pub rule: Option<usize>,
    /// Why.
    pub reason: String,
}

/// How it stands with one identity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Whose.
    pub identity: SpiffeId,
    /// Whether there is a valid SVID now.
    pub valid: bool,
    /// The SVID first, then what leads to a root, then the roots; empty when there is no SVID.
    pub chain: Vec<ChainCertificate>,
    /// The key exchanges that the identity's open tunnels agreed on.
    pub key_exchanges: Vec<KeyExchange>,
    /// Why the last attempt to get one failed, if it did.
    pub last_error: Option<String>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainCertificate {
    /// `leaf`, `intermediate` or `root`.
    pub role: String,
    /// The SPIFFE ID, or else the subject.
    pub name: String,
    /// Hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}

/// How many tunnels agreed on one key exchange.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyExchange {
    /// The TLS named group, such as `X25519MLKEM768`.
    pub group: String,
    /// Open tunnels.
    pub tunnels: usize,
}

/// What the agent logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logging {
    /// Directives of `tracing`'s `EnvFilter`, such as `info` or `info,mesh_node::hbone=debug`.
    pub filter: String,
}
