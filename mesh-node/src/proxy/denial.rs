//! Why the destination's agent denied a connection, found out at the client's end.
//!
//! The destination decides, and says no more than that it did: by the status of its answer, or by the code of a
//! reset. The policy and the rule are those that this agent's own state names for the same connection. That
//! state may be a moment older, so it is waited for.

use mesh_common::policy::{Reason, Verdict};
use mesh_common::snapshot::Snapshot;
use std::time::Duration;

use super::Mesh;
use super::facts::judge;
use super::relay::RelayError;
use crate::hbone::StreamError;
use crate::observe::{Flag, Outcome, Parties, Record};

/// The agent of the destination had the state this much earlier at most.
const SAME_STATE_WITHIN: Duration = Duration::from_secs(2);

/// The verdict that this agent's state gives, if it denies. When the peer was not `certain` to have denied the
/// connection, only the state at hand is asked, and only what its policies say: a destination that is gone may
/// have reset its connections itself.
async fn verdict(mesh: &Mesh, parties: &Parties, certain: bool) -> Option<Verdict> {
    let mut snapshot = mesh.snapshot.clone();
    let denies = |state: &Snapshot| Some(judge(state, parties)).filter(|v| !v.is_allow());
    if certain {
        let denied = snapshot.wait_for(|state| denies(state).is_some());
        // Without one in time, nothing more is known than that it was denied.
        let _ = tokio::time::timeout(SAME_STATE_WITHIN, denied).await;
    }
    denies(&mesh.state()).filter(|v| certain || v.reason != Reason::UnknownDestination)
}

/// Notes why the peer answered that policy denies the connection.
pub(super) async fn refused(mesh: &Mesh, record: &mut Record) {
    if let Some(verdict) = verdict(mesh, record.parties(), true).await {
        record.denied(verdict, mesh.state());
    }
}

/// How a connection ended that broke: a reset by the peer may be a change of policy there.
pub(super) async fn broken(mesh: &Mesh, record: &mut Record, error: RelayError) -> Outcome {
    let certain = match &error {
        RelayError::Stream(reset @ StreamError::Reset(_)) => reset.is_denial(),
        _ => return Outcome::failed(Flag::Ok, error),
    };
    match verdict(mesh, record.parties(), certain).await {
        Some(verdict) => super::authorize::revoked(mesh, record, verdict),
        None if certain => {
            Outcome::failed(Flag::Denied, "closed by a policy change at the destination")
        }
        None => Outcome::failed(Flag::Ok, error),
    }
}
