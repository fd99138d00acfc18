//! The agent's HTTP endpoints: `/metrics`, `/healthz/ready` and `/config_dump`.

use axum::Json;
use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tokio::net::TcpListener;

use crate::enroll::Enrolment;
use crate::observe::AgentMetrics;
use crate::proxy::Mesh;
use crate::state::State;

/// Completed once the agent can serve; never un-completed by a lost controller.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on the agent is ready.
    pub fn complete(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_complete(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the endpoints read.
#[derive(Clone)]
pub struct Admin {
    /// The data plane.
    pub mesh: Mesh,
    /// The enrolled pods.
    pub enrolment: Enrolment,
    /// Discovery.
    pub state: State,
    /// Whether the agent is ready.
    pub readiness: Readiness,
}

/// Where the endpoints listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// `/config_dump`.
    pub admin: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/healthz/ready`.
    pub ready: SocketAddr,
}

/// Binds the endpoints and serves them on the current runtime.
///
/// # Errors
/// When an address cannot be bound; names the flag.
pub async fn serve(addresses: Addresses, admin: Admin) -> io::Result<()> {
    let routes = [
        (
            "--admin-addr",
            addresses.admin,
            Router::new().route("/config_dump", get(config_dump)),
        ),
        (
            "--metrics-addr",
            addresses.metrics,
            Router::new().route("/metrics", get(metrics)),
        ),
        (
            "--ready-addr",
            addresses.ready,
            Router::new().route("/healthz/ready", get(ready)),
        ),
    ];
    for (flag, address, router) in routes {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("{flag} {address}: {e}")))?;
        let service = router.with_state(admin.clone());
        tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, service).await {
                tracing::error!("{flag} {address}: {e}");
            }
        });
    }
    Ok(())
}

async fn ready(Shared(admin): Shared<Admin>) -> impl IntoResponse {
    if admin.readiness.is_complete() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let status = admin.state.sync_status();
        let why = status
            .last_error
            .unwrap_or_else(|| "waiting for the first state".into());
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        )
    }
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
        outbound_tunnels: count(admin.mesh.tunnels.load(Ordering::Relaxed)),
        live_inbound: count(admin.mesh.registry.len()),
        direct_exemptions: count(admin.mesh.direct.exemptions()),
        direct_connections: count(admin.mesh.direct.connections()),
        log_lines_dropped: admin.mesh.observer.log_lines_dropped(),
        controller_connected: status.connected,
        state_age_seconds: status.last_update.map(age),
    };
    match admin.mesh.observer.metrics().encode(&agent) {
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

/// Seconds since `at`; 0 if the clock went back.
fn age(at: SystemTime) -> i64 {
    at.elapsed()
        .map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
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
