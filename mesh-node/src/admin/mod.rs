//! The agent's HTTP endpoints: those of [`mesh_common::admin`], `/metrics` and `/healthz/ready`.
//!
//! A file for each group of routes; each has a `routes()` that [`serve`] merges into its address's router.

mod certificates;
mod connections;
mod explain;
mod health;
mod logging;
mod metrics;
mod state;
mod status;

use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::enroll::Enrolment;
use crate::logging::Logs;
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
    /// What is logged.
    pub logs: Logs,
    /// The agent itself.
    pub about: About,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The node, as the controller knows it.
    pub node: String,
    /// Where the controller is.
    pub controller: String,
    /// When the agent started.
    pub started: SystemTime,
}

/// Where the endpoints listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// What [`mesh_common::admin`] lists.
    pub admin: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/healthz/ready`.
    pub ready: SocketAddr,
}

/// What [`mesh_common::admin`] lists. Only here can something be changed.
fn operator() -> Router<Admin> {
    status::routes()
        .merge(connections::routes())
        .merge(explain::routes())
        .merge(certificates::routes())
        .merge(state::routes())
        .merge(logging::routes())
}

/// Binds the endpoints and serves them on the current runtime.
///
/// # Errors
/// When an address cannot be bound; names the flag.
pub async fn serve(addresses: Addresses, admin: Admin) -> io::Result<Vec<AbortHandle>> {
    let routes = [
        ("--admin-addr", addresses.admin, operator()),
        ("--metrics-addr", addresses.metrics, metrics::routes()),
        ("--ready-addr", addresses.ready, health::routes()),
    ];
    // All of them first, so that a failure leaves none.
    let mut bound = Vec::new();
    for (flag, address, router) in routes {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("{flag} {address}: {e}")))?;
        bound.push((flag, address, listener, router.with_state(admin.clone())));
    }
    let mut served = Vec::new();
    for (flag, address, listener, service) in bound {
        let task = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, service).await {
                tracing::error!("{flag} {address}: {e}");
            }
        });
        served.push(task.abort_handle());
    }
    Ok(served)
}
