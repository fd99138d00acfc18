//! Policy, as the API server is told it.

use super::application::{self, NAMESPACE, SERVICES, ask, ask_from};
use super::{Outcome, Stage};
use crate::wait;
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;

/// A policy is in force soon after it was written, not at once.
const DEADLINE: Duration = Duration::from_secs(60);
/// A namespace that is not in the mesh, and its only pod.
pub(super) const OUTSIDE: &str = "weft-test-outside";

/// STRICT refuses who is not in the mesh, and nobody else.
pub(super) fn strict(stage: &Stage) -> Result<Outcome> {
    let [web, catalog, _] = SERVICES;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OUTSIDE},
    });
    stage.kubectl.apply(&[namespace])?;
    stage
        .kubectl
        .apply(&[application::client("client", OUTSIDE, None)])?;
    let ready = [
        "-n",
        OUTSIDE,
        "wait",
        "--for=condition=Ready",
        "pod/client",
        "--timeout=120s",
    ];
    stage.kubectl.run(&ready)?;
    // Without it, whoever is outside is let in.
    ask_from(stage, OUTSIDE, "client", catalog)?;
    let policy = json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": NAMESPACE},
        "spec": {"mtls": {"mode": "STRICT"}},
    });
    stage.kubectl.apply(&[policy])?;
    wait::until_true(
        "STRICT to refuse a pod outside of the mesh",
        DEADLINE,
        || Ok(ask_from(stage, OUTSIDE, "client", catalog).is_err()),
    )?;
    ask(stage, web, catalog)?;
    Ok(Outcome::Holds(
        "a pod outside of the mesh was let in before, and is refused now".into(),
    ))
}

/// A policy that names one identity lets that one in.
pub(super) fn authorization(stage: &Stage) -> Result<Outcome> {
    let [web, catalog, stock] = SERVICES;
    ask(stage, web, stock)?;
    let principal = format!("cluster.local/ns/{NAMESPACE}/sa/{catalog}");
    let policy = json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy",
        "metadata": {"name": stock, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": stock}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": [principal]}}]}],
        },
    });
    stage.kubectl.apply(&[policy])?;
    wait::until_true("the policy to refuse another identity", DEADLINE, || {
        Ok(ask(stage, web, stock).is_err())
    })?;
    let allowed = ask(stage, catalog, stock);
    ensure!(
        allowed.is_ok(),
        "the identity that is named is refused: {allowed:?}"
    );
    Ok(Outcome::Holds(format!(
        "{stock} lets {catalog} in, and not {web}, which it did before"
    )))
}
