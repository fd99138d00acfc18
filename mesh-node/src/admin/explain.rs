//! `/policy/explain?from=&to=&port=`: what would become of a connection, by the newest state.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::question::{Answer, Question, QuestionError, answer};

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/policy/explain", get(explain))
}

async fn explain(
    Shared(admin): Shared<Admin>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    let Query(question) = question.map_err(|e| {
        let why = format!("{e}; write /policy/explain?from=NAME&to=NAME&port=NUMBER\n");
        (StatusCode::BAD_REQUEST, why)
    })?;
    let snapshot = admin.mesh.snapshot.borrow().clone();
    // A service account and a service may have thousands of pods, and this thread has other work.
    let answered = tokio::task::spawn_blocking(move || answer(&snapshot, &question)).await;
    let answered = answered.map_err(|e| {
        let why = format!("the question could not be answered: {e}\n");
        (StatusCode::INTERNAL_SERVER_ERROR, why)
    })?;
    answered
        .map(Json)
        .map_err(|e| (status(&e), format!("{e}\n")))
}

fn status(error: &QuestionError) -> StatusCode {
    match error {
        QuestionError::Unknown { .. } | QuestionError::NoPort { .. } => StatusCode::NOT_FOUND,
        QuestionError::Malformed { .. } | QuestionError::Ambiguous { .. } => {
            StatusCode::BAD_REQUEST
        }
    }
}
