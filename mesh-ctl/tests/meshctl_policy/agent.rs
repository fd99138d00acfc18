//! Live answers: an agent's endpoint, with the state that the directory `shop` gives.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::{AgentStatus, ControllerStatus};
use mesh_common::proto::security::Authorization;
use mesh_common::proto::workload::Address;
use mesh_common::question::{Answer, Question, QuestionError, answer};
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use mesh_ctl::compile::{Options, compile};
use mesh_ctl::source;
use prost::Message as _;

use crate::{check, here, meshctl, transcript};

fn snapshot() -> Snapshot {
    let options = Options {
        cluster_id: "Kubernetes".into(),
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: Vec::new(),
        root_namespace: "istio-system".into(),
        dataplane_label: "istio.io/dataplane-mode".into(),
        dataplane_value: "ambient".into(),
    };
    let compiled = compile(&source::read(&here().join("shop")).unwrap(), &options);
    let mut builder = SnapshotBuilder::default();
    for (name, policy) in &compiled.policies {
        let policy = Authorization::decode(policy.body()).unwrap();
        builder.upsert_policy(name, policy).unwrap();
    }
    for (name, address) in &compiled.addresses {
        let address = Address::decode(address.body()).unwrap();
        builder.upsert_address(name, address).unwrap();
    }
    builder.to_snapshot()
}

async fn explain(
    State(snapshot): State<Arc<Snapshot>>,
    Query(question): Query<Question>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    let status = |e: &QuestionError| match e {
        QuestionError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::NOT_FOUND,
    };
    let answered = answer(&snapshot, &question);
    answered
        .map(Json)
        .map_err(|e| (status(&e), format!("{e}\n")))
}

async fn status() -> Json<AgentStatus> {
    Json(AgentStatus {
        version: "0.1.0".into(),
        node: "worker-1".into(),
        started: "2026-11-21T20:00:00Z".into(),
        ready: true,
        controller: ControllerStatus {
            url: "https://controller:15012".into(),
            connected: true,
            state_age_seconds: Some(1),
            last_error: None,
        },
        pods: 3,
        connections: 0,
        tunnels: 0,
    })
}

/// Asks an agent that runs while it is asked; said as it would be of node address `URL`.
async fn ask(line: &str) -> String {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/policy/explain", get(explain))
        .with_state(Arc::new(snapshot()));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = tokio::net::TcpListener::bind(any).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let args: Vec<String> = line
        .split(' ')
        .map(|arg| arg.replace("URL", &url))
        .collect();
    let run = move || -> Output { meshctl().arg("policy").args(args).output().unwrap() };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    serving.abort();
    transcript(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_answers_as_the_directory_does() {
    for (name, from) in [
        ("live-explain", "shop/frontend"),
        ("live-unknown", "shop/fronted"),
        ("live-ambiguous", "shop/cache"),
    ] {
        let line = format!("explain --node-url URL --from {from} --to pod:shop/db-0 --port 5432");
        check(name, &line, &ask(&line).await).unwrap();
    }
}
