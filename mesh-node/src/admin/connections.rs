//! `/connections`: what is open now, at either end.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::{ConnectionStatus, PartyStatus, VerdictStatus};
use mesh_common::policy::Verdict;
use mesh_common::snapshot::Snapshot;

use super::Admin;
use crate::observe::{Open, Party, Reporter};
use crate::proxy;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/connections", get(connections))
}

async fn connections(Shared(admin): Shared<Admin>) -> Json<Vec<ConnectionStatus>> {
    Json(list(&admin))
}

/// What is open now. Verdicts are those of the newest state, not of the one that a connection was opened under.
pub(super) fn list(admin: &Admin) -> Vec<ConnectionStatus> {
    let snapshot = admin.mesh.snapshot.borrow().clone();
    let open = admin.mesh.observer.open_connections();
    open.iter().map(|open| describe(open, &snapshot)).collect()
}

fn describe(open: &Open, snapshot: &Snapshot) -> ConnectionStatus {
    let parties = &*open.parties;
    let (bytes_from_client, bytes_to_client) = open.traffic.counted();
    let decides = parties.reporter == Reporter::Destination;
    ConnectionStatus {
        direction: parties.reporter.direction(),
        source: party(&parties.source),
        destination: party(&parties.destination),
        service: parties.service.as_ref().map(|s| s.hostname.to_string()),
        security: parties.security.label().to_owned(),
        verdict: decides.then(|| verdict(&proxy::judge(snapshot, parties))),
        bytes_from_client,
        bytes_to_client,
        age_seconds: open.since.elapsed().as_secs(),
    }
}

fn party(party: &Party) -> PartyStatus {
    let workload = party.workload.as_deref();
    PartyStatus {
        address: party.address,
        namespace: workload.map(|workload| workload.namespace.to_string()),
        workload: workload.map(|workload| workload.name.to_string()),
        identity: party.identity.clone(),
    }
}

fn verdict(verdict: &Verdict) -> VerdictStatus {
    VerdictStatus {
        action: if verdict.is_allow() { "allow" } else { "deny" }.to_owned(),
        policy: verdict.policy.as_deref().map(str::to_owned),
        rule: verdict.rule,
        reason: verdict.reason.to_string(),
    }
}
