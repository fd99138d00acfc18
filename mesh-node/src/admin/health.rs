//! `/healthz/ready`: whether the agent can serve, and what it waits for.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/healthz/ready", get(ready))
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
