//! The admin endpoints: readiness, metrics, and what was compiled.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::compile::render;
use crate::metrics::Metrics;
use crate::resources::{Kind, World};

/// What the endpoints show.
#[derive(Clone)]
pub struct Admin {
    /// The current world.
    pub worlds: watch::Receiver<Arc<World>>,
    /// What is not enforced as it was written.
    pub warnings: watch::Receiver<Arc<BTreeSet<String>>>,
    /// The counters.
    pub metrics: Metrics,
}

impl Admin {
    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/debug/resources", get(resources))
            .with_state(self)
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.worlds.borrow().generation() > 0 {
        "ready\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the first read of the configuration\n",
        )
            .into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

async fn resources(State(admin): State<Admin>) -> axum::Json<Value> {
    let world = Arc::clone(&admin.worlds.borrow());
    let warnings = Arc::clone(&admin.warnings.borrow());
    axum::Json(dump(&world, &warnings))
}

/// Everything that is served, as JSON.
pub fn dump(world: &World, warnings: &BTreeSet<String>) -> Value {
    let table = |kind: Kind| -> Value {
        let entry = |resource: &Arc<crate::resources::Resource>| {
            let content =
                json!({"version": &*resource.version, "resource": render(kind, resource)});
            (resource.name.to_string(), content)
        };
        Value::Object(world.table(kind).iter().map(entry).collect())
    };
    json!({
        "generation": world.generation(),
        "addresses": table(Kind::Address),
        "policies": table(Kind::Authorization),
        "warnings": warnings,
    })
}
