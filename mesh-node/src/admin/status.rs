//! `/status`: the agent itself.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::{AgentStatus, ControllerStatus};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/status", get(status))
}

async fn status(Shared(admin): Shared<Admin>) -> Json<AgentStatus> {
    let started = OffsetDateTime::from(admin.about.started).format(&Rfc3339);
    Json(AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: admin.about.node.clone(),
        // Only years of five digits cannot be written.
        started: started.unwrap_or_default(),
        ready: admin.readiness.is_complete(),
        controller: controller(&admin),
        pods: admin.enrolment.list().len(),
        connections: admin.mesh.observer.open_count(),
        tunnels: admin.mesh.tunnels.outbound(),
    })
}

/// How it stands with the controller.
pub(super) fn controller(admin: &Admin) -> ControllerStatus {
    let status = admin.state.sync_status();
    ControllerStatus {
        url: admin.about.controller.clone(),
        connected: status.connected,
        state_age_seconds: status.last_update.map(age),
        last_error: status.last_error,
    }
}

/// Seconds since `at`; 0 if the clock went back.
pub(super) fn age(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, |age| age.as_secs())
}
