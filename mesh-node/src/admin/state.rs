//! `/config_dump`: what the agent knows.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::time::SystemTime;

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/config_dump", get(config_dump))
}

async fn config_dump(Shared(admin): Shared<Admin>) -> Json<Value> {
    let snapshot = admin.mesh.snapshot.borrow().clone();
    let status = admin.state.sync_status();
    let same_node = admin.mesh.direct.describe().await;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "controller": {
            "connected": status.connected,
            "stateAgeSeconds": status.last_update.map(age),
            "lastError": status.last_error,
        },
        "workloads": snapshot.workloads().collect::<Vec<_>>(),
        "services": snapshot.services().collect::<Vec<_>>(),
        "policies": snapshot.policies().collect::<Vec<_>>(),
        "certificates": admin.mesh.certificates.list(),
        "pods": admin.enrolment.list(),
        "connections": admin.mesh.registry.list(),
        "sameNode": same_node,
    }))
}

/// Seconds since `at`; 0 if the clock went back.
pub(super) fn age(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, |age| age.as_secs())
}
