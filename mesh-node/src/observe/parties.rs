//! Who talks to whom, and how that is protected.

use mesh_common::admin::Direction;
use mesh_common::identity::SpiffeId;
use mesh_common::workload::{Service, Workload};
use std::net::SocketAddr;
use std::sync::Arc;

/// Which end reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The agent of the client.
    Source,
    /// The agent of the server.
    Destination,
}

impl Reporter {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// The connection's direction, as seen from here.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Source => Direction::Outbound,
            Self::Destination => Direction::Inbound,
        }
    }
}

/// Whether the connection ran inside mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// An HBONE tunnel whose both ends proved their identities.
    MutualTls,
    /// In the clear, between two pods of this node whose identities the node itself knows.
    Direct,
    /// In the clear.
    None,
}

impl Security {
    pub(super) fn metric_label(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Direct => "none",
            Self::None => "unknown",
        }
    }

    /// As the access log names it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Direct => "direct",
            Self::None => "none",
        }
    }
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug)]
pub struct Party {
    /// The application's address at this end.
    pub address: SocketAddr,
    /// The workload there, when the controller named one.
    pub workload: Option<Arc<Workload>>,
    /// The identity proven by TLS, or, for the agent's own pod, the one it holds.
    pub identity: Option<SpiffeId>,
}

impl Party {
    /// An end of which only the address is known.
    #[must_use]
    pub fn unknown(address: SocketAddr) -> Self {
        Self {
            address,
            workload: None,
            identity: None,
        }
    }
}

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The reporting end.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server.
    pub destination: Party,
    /// Where the tunnel goes, when there is one.
    pub hbone_address: Option<SocketAddr>,
    /// The service that was dialled, when there was one.
    pub service: Option<Arc<Service>>,
    /// How it was protected.
    pub security: Security,
}
