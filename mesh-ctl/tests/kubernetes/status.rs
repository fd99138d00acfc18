//! Policies that are not enforced as they were written say so, by the hand of one replica.

use std::time::Duration;

use kube::Client;
use kube::api::{Patch, PatchParams};
use mesh_ctl::lease::Lease;
use mesh_ctl::metrics::Metrics;
use mesh_ctl::model::{Change, Objects};
use mesh_ctl::source::{KubernetesSource, Sink};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{api, change, create, name, namespace, policy, resource};
use crate::watching::cluster;

const DEADLINE: Duration = Duration::from_secs(90);
const LEASE: Duration = Duration::from_secs(2);

struct Nobody;

impl Sink for Nobody {
    fn replace(&mut self, _: Objects) {}
    fn change(&mut self, _: Vec<Change>) {}
}

struct Replica {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn replica(client: &Client, holder: &str) -> Replica {
    let lease = Lease::new(client.clone(), "default", "weft-policy-status", holder).lasting(LEASE);
    let source = KubernetesSource::new(client.clone(), Metrics::default().watches());
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.writing_status(lease).run(Nobody, stop.clone()));
    Replica { stop, task }
}

async fn get(client: &Client, policy: &Value) -> Value {
    let object = api(client, &resource(policy), policy)
        .get(name(policy))
        .await;
    serde_json::to_value(object.unwrap()).unwrap()
}

fn condition(policy: &Value) -> Option<&Value> {
    let conditions = policy["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == "WeftEnforced")
}

/// Waits for a condition with this status and reason on the newest version.
pub(crate) async fn until(client: &Client, policy: &Value, status: &str, reason: &str) -> Value {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let now = get(client, policy).await;
        if let Some(condition) = condition(&now)
            && condition["status"] == status
            && condition["reason"] == reason
            && condition["observedGeneration"] == now["metadata"]["generation"]
        {
            return now;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "never {status}, {reason}: {now}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn methods(action: &str) -> Value {
    json!({"action": action, "rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_says_what_of_it_is_not_enforced() {
    let (_control_plane, client) = cluster().await;
    create(&client, &namespace("shop")).await;
    let partly = policy("shop", "partly", &methods("DENY"));
    let invalid = policy("shop", "invalid", &json!({"ruels": []}));
    let custom = policy("shop", "custom", &json!({"action": "CUSTOM"}));
    let full = policy("shop", "full", &json!({}));
    for policy in [&partly, &invalid, &custom, &full] {
        create(&client, policy).await;
    }
    let others = json!({"status": {"conditions": [{"type": "Accepted", "status": "True"}]}});
    api(&client, &resource(&partly), &partly)
        .patch_status("partly", &PatchParams::default(), &Patch::Merge(&others))
        .await
        .unwrap();

    let first = replica(&client, "first");
    let seen = until(&client, &partly, "False", "PartlyEnforced").await;
    let message = condition(&seen).unwrap()["message"].as_str().unwrap();
    assert!(
        message.contains("spec.rules[0].to[0].operation.methods"),
        "{message}"
    );
    assert_eq!(seen["status"]["conditions"][0]["type"], "Accepted");
    let seen = until(&client, &invalid, "False", "Invalid").await;
    let message = condition(&seen).unwrap()["message"].as_str().unwrap();
    assert!(
        message.contains("ruels") && message.contains("denied"),
        "{message}"
    );
    until(&client, &custom, "False", "NotEnforced").await;
    assert_eq!(
        condition(&get(&client, &full).await),
        None,
        "nothing to say"
    );

    // The next replica takes over: what is said stays as it is, what is mended is said to be.
    let second = replica(&client, "second");
    first.stop.cancel();
    first.task.await.unwrap();
    let before = get(&client, &custom).await;
    change(&client, &policy("shop", "invalid", &json!({}))).await;
    until(&client, &invalid, "True", "Enforced").await;
    change(&client, &policy("shop", "partly", &methods("ALLOW"))).await;
    until(&client, &partly, "False", "PartlyEnforced").await;
    let after = get(&client, &custom).await;
    assert_eq!(
        before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"],
        "what is said already is not written again"
    );
    second.stop.cancel();
    second.task.await.unwrap();
}
