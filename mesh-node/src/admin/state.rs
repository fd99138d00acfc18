//! What the agent knows: `/workloads`, `/services`, `/policies`, `/pods`, and all of it in `/config_dump`.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::policy::Policy;
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::{Service, Workload};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Admin, certificates, connections, status};
use crate::enroll::Enrolled;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/workloads", get(workloads))
        .route("/services", get(services))
        .route("/policies", get(policies))
        .route("/pods", get(pods))
        .route("/config_dump", get(config_dump))
}

fn snapshot(admin: &Admin) -> Arc<Snapshot> {
    admin.mesh.snapshot.borrow().clone()
}

async fn workloads(Shared(admin): Shared<Admin>) -> Json<Vec<Arc<Workload>>> {
    Json(sorted_workloads(&snapshot(&admin)))
}

async fn services(Shared(admin): Shared<Admin>) -> Json<Vec<Arc<Service>>> {
    Json(sorted_services(&snapshot(&admin)))
}

async fn policies(Shared(admin): Shared<Admin>) -> Json<Vec<Arc<Policy>>> {
    Json(snapshot(&admin).policies().cloned().collect())
}

async fn pods(Shared(admin): Shared<Admin>) -> Json<Vec<Enrolled>> {
    Json(admin.enrolment.list())
}

async fn config_dump(Shared(admin): Shared<Admin>) -> Json<Value> {
    let snapshot = snapshot(&admin);
    let same_node = admin.mesh.direct.describe().await;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "controller": status::controller(&admin),
        "workloads": sorted_workloads(&snapshot),
        "services": sorted_services(&snapshot),
        "policies": snapshot.policies().collect::<Vec<_>>(),
        "certificates": certificates::list(&admin),
        "pods": admin.enrolment.list(),
        "connections": connections::list(&admin),
        "sameNode": same_node,
    }))
}

/// By uid.
fn sorted_workloads(snapshot: &Snapshot) -> Vec<Arc<Workload>> {
    let mut list: Vec<_> = snapshot.workloads().cloned().collect();
    list.sort_by(|a, b| a.uid.cmp(&b.uid));
    list
}

/// By namespace and hostname.
fn sorted_services(snapshot: &Snapshot) -> Vec<Arc<Service>> {
    let mut list: Vec<_> = snapshot.services().cloned().collect();
    list.sort_by(|a, b| a.key().cmp(b.key()));
    list
}
