//! The only place that can let a connection through.

use mesh_common::policy::Verdict;
use mesh_common::snapshot::Snapshot;
use std::sync::Arc;
use tokio::sync::watch;

use super::Mesh;
use super::facts::Facts;
use super::registry::{Registration, Registry, step};
use crate::observe::{Flag, Outcome, Record};

/// Proof that policy allowed a connection, and its place among the live ones. Only [`authorize`]
/// makes one; the application is reached with nothing less.
#[derive(Debug)]
pub(super) struct Permit {
    registration: Registration,
    verdict: Verdict,
}

impl Permit {
    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(super) fn facts(&self) -> &Facts {
        self.registration.facts()
    }

    /// Completes when policy withdraws the permission.
    pub(super) async fn revoked(&self) -> Verdict {
        #[cfg(feature = "sabotage")]
        if sabotaged() {
            std::future::pending::<()>().await;
        }
        self.registration.revoked().await
    }
}

/// Registers the connection, then judges it by the newest state.
pub(super) fn authorize(
    registry: &Registry,
    snapshot: &watch::Receiver<Arc<Snapshot>>,
    facts: Facts,
) -> Result<Permit, Verdict> {
    let registration = registry.register(facts);
    // Read only after registering: a state published in between finds the connection listed.
    let state = snapshot.borrow().clone();
    step();
    let verdict = registration.facts().judge(&state);
    #[cfg(feature = "sabotage")]
    if sabotaged() {
        return Ok(Permit {
            registration,
            verdict,
        });
    }
    if verdict.is_allow() {
        Ok(Permit {
            registration,
            verdict,
        })
    } else {
        Err(verdict)
    }
}

/// The end of a connection that was not let through.
pub(super) fn denied(mesh: &Mesh, record: &mut Record, verdict: Verdict) -> Outcome {
    let outcome = Outcome::failed(
        Flag::Denied,
        format_args!("denied by policy: {}", verdict.reason),
    );
    record.denied(verdict, mesh.state());
    outcome
}

/// The end of a connection that was let through and is no longer allowed.
pub(super) fn revoked(mesh: &Mesh, record: &mut Record, verdict: Verdict) -> Outcome {
    let outcome = Outcome::failed(
        Flag::Denied,
        format_args!("closed by a policy change: {}", verdict.reason),
    );
    record.denied(verdict, mesh.state());
    outcome
}

/// Whether the lab told this agent to let everything through. Never compiled into what ships.
#[cfg(feature = "sabotage")]
fn sabotaged() -> bool {
    std::env::var_os("WEFT_SABOTAGE").is_some_and(|mode| mode == "allow-all")
}
