//! The admin endpoints: readiness, metrics, status, what was compiled, and what each client was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mesh_common::admin::controller::ControllerReport;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::compile::render;
use crate::metrics::Metrics;
use crate::resources::{Kind, Resource, World};
use crate::xds::status::Clients;

/// What the endpoints show.
#[derive(Clone)]
pub struct Admin {
    /// The current world.
    pub worlds: watch::Receiver<Arc<World>>,
    /// What is not enforced as it was written.
    pub warnings: watch::Receiver<Arc<BTreeSet<String>>>,
    /// Who is connected.
    pub clients: Clients,
    /// The counters.
    pub metrics: Metrics,
    /// When the controller started.
    pub started: SystemTime,
}

impl Admin {
    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/debug/resources", get(resources))
            .route("/debug/clients", get(clients))
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

async fn status(State(admin): State<Admin>) -> axum::Json<ControllerReport> {
    let world = Arc::clone(&admin.worlds.borrow());
    let warnings = Arc::clone(&admin.warnings.borrow());
    axum::Json(ControllerReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: humantime::format_rfc3339_seconds(admin.started).to_string(),
        ready: world.generation() > 0,
        generation: world.generation(),
        addresses: world.table(Kind::Address).len(),
        policies: world.table(Kind::Authorization).len(),
        nodes: admin.clients.report(),
        warnings: warnings.iter().cloned().collect(),
    })
}

/// Which resources to show; all when nothing is said.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// `address` or `authorization`.
    kind: Option<String>,
    /// A name, or an alias.
    name: Option<String>,
}

async fn resources(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let world = Arc::clone(&admin.worlds.borrow());
    if wanted.kind.is_none() && wanted.name.is_none() {
        let warnings = Arc::clone(&admin.warnings.borrow());
        return axum::Json(dump(&world, &warnings)).into_response();
    }
    let is_kind = |kind: &&Kind| wanted.kind.as_deref().is_none_or(|k| k == kind.label());
    let kinds: Vec<Kind> = Kind::ALL.iter().filter(is_kind).copied().collect();
    if kinds.is_empty() {
        let text = "there is no such kind; there are address, authorization and enrolment\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let found = kinds.into_iter().flat_map(|kind| {
        let table = world.table(kind);
        let found: Vec<&Arc<Resource>> = match &wanted.name {
            Some(name) => table.get(name).into_iter().collect(),
            None => table.sorted(),
        };
        found.into_iter().map(move |resource| entry(kind, resource))
    });
    let found: Map<String, Value> = found.collect();
    if found.is_empty() && wanted.name.is_some() {
        return (StatusCode::NOT_FOUND, "there is no such resource\n").into_response();
    }
    axum::Json(found).into_response()
}

async fn clients(State(admin): State<Admin>) -> axum::Json<Value> {
    axum::Json(admin.clients.json())
}

/// Everything that is served, as JSON.
pub fn dump(world: &World, warnings: &BTreeSet<String>) -> Value {
    let table = |kind: Kind| -> Value {
        let all = world.table(kind).sorted();
        Value::Object(all.into_iter().map(|r| entry(kind, r)).collect())
    };
    json!({
        "generation": world.generation(),
        "addresses": table(Kind::Address),
        "policies": table(Kind::Authorization),
        "enrolments": table(Kind::Enrolment),
        "warnings": warnings,
    })
}

fn entry(kind: Kind, resource: &Resource) -> (String, Value) {
    let content = json!({"version": resource.version(), "resource": render(kind, resource)});
    (resource.name.to_string(), content)
}
