//! `/metrics`.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use mesh_common::workload::Workload;
use std::sync::Arc;

use super::Admin;
use super::status::age;
use crate::observe::AgentMetrics;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(Shared(admin): Shared<Admin>) -> impl IntoResponse {
    admin.mesh.refuser.report();
    let status = admin.state.sync_status();
    let steering = match admin.mesh.datapath.counters() {
        Ok(counters) => counters,
        Err(e) => {
            tracing::warn!("metrics: cannot read the steering counters: {e}");
            Vec::new()
        }
    };
    let agent = AgentMetrics {
        steering,
        enrolled_pods: count(admin.enrolment.list().len()),
        outbound_tunnels: count(admin.mesh.tunnels.outbound()),
        live_inbound: count(admin.mesh.registry.len()),
        direct_exemptions: count(admin.mesh.direct.exemptions()),
        direct_connections: count(admin.mesh.direct.connections()),
        log_lines_dropped: admin.mesh.observer.log_lines_dropped(),
        controller_connected: status.connected,
        state_age_seconds: status
            .last_update
            .map(|at| i64::try_from(age(at)).unwrap_or(i64::MAX)),
    };
    let metrics = admin.mesh.observer.metrics();
    let snapshot = admin.mesh.snapshot.borrow().clone();
    // A policy that is only named by a workload denies, and is counted as one that is missing.
    metrics.retain_policies(|policy| {
        let names =
            |workload: &Arc<Workload>| workload.policies.iter().any(|name| **name == *policy);
        snapshot.policy(policy).is_some() || snapshot.workloads().any(names)
    });
    match metrics.encode(&agent) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
