//! `/logging`: what the agent logs, changed while it runs.

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::Logging;

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/logging", get(shown).put(change))
}

async fn shown(Shared(admin): Shared<Admin>) -> Json<Logging> {
    Json(Logging {
        filter: admin.logs.filter(),
    })
}

async fn change(
    Shared(admin): Shared<Admin>,
    body: Bytes,
) -> Result<Json<Logging>, (StatusCode, String)> {
    let wrong = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n"));
    let asked: Logging = serde_json::from_slice(&body)
        .map_err(|e| wrong(format!("the body must be {{\"filter\": \"LEVEL\"}}: {e}")))?;
    admin
        .logs
        .set(&asked.filter)
        .map_err(|e| wrong(e.to_string()))?;
    Ok(Json(Logging {
        filter: admin.logs.filter(),
    }))
}
