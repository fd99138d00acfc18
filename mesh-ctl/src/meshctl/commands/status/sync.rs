//! Whether an agent has what its controller has.

use mesh_common::admin::AgentStatus;
use serde::Serialize;

use super::Controller;

/// How far an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sync {
    /// It has all that the controller sent.
    Synced,
    /// It has not yet said so.
    Behind,
    /// It refused the last that it was sent.
    Refused,
    /// It is connected, to a controller that was not asked.
    Connected,
    /// It is not connected.
    Disconnected,
}

impl Sync {
    /// Of that agent, as far as these controllers know it.
    pub(super) fn of(agent: &AgentStatus, controllers: &[Controller]) -> Self {
        if !agent.controller.connected {
            return Self::Disconnected;
        }
        let mut nodes = controllers.iter().flat_map(|c| &c.report.nodes);
        // The newest connection comes last.
        match nodes.rfind(|node| node.node == agent.node) {
            None => Self::Connected,
            Some(node) if node.refusal.is_some() => Self::Refused,
            Some(node) if !node.in_sync => Self::Behind,
            Some(_) => Self::Synced,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Behind => "behind",
            Self::Refused => "refused",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}
