//! An agent's admin endpoints, with little behind them.

use std::net::{Ipv4Addr, SocketAddr};

use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::{AgentStatus, ControllerStatus, Logging};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Serves them until the test ends.
pub(crate) async fn start(node: &str) -> SocketAddr {
    let status = AgentStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        node: node.into(),
        started: "2026-01-01T00:00:00Z".into(),
        ready: true,
        controller: ControllerStatus {
            url: "https://weft-controller:15012".into(),
            connected: true,
            state_age_seconds: Some(1),
            last_error: None,
        },
        pods: 0,
        connections: 0,
        tunnels: 0,
    };
    let mut router = Router::new().route("/status", get(async || Json(status)));
    for list in [
        "workloads",
        "services",
        "policies",
        "pods",
        "connections",
        "certificates",
    ] {
        router = router.route(&format!("/{list}"), get(async || Json(json!([]))));
    }
    // More than any buffer on the way holds.
    let dump = json!({"version": "1", "filler": "x".repeat(3 << 20)});
    let level = || async {
        Json(Logging {
            filter: "info".into(),
        })
    };
    let set = async |Json(wanted): Json<Logging>| Json(wanted);
    let router = router
        .route("/config_dump", get(async || Json::<Value>(dump)))
        .route("/logging", get(level).put(set));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
