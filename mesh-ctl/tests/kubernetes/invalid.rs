//! Policies that cannot be read: none vanishes, none lets through what its good version would not.

use mesh_ctl::model::{Action, AuthorizationPolicy, ObjectName, Objects};
use serde_json::{Value, json};

use crate::cluster::{change, create, delete, namespace, policy};
use crate::watching::{Watching, cluster};

fn get<'a>(objects: &'a Objects, name: &str) -> Option<&'a AuthorizationPolicy> {
    let name = ObjectName::new("shop", name);
    objects.authorization_policies.get(&name)
}

fn ports(port: &str) -> Value {
    json!({"action": "ALLOW", "rules": [{"to": [{"operation": {"ports": [port]}}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_policy_stays_good_or_denies() {
    let (_control_plane, client) = cluster().await;
    create(&client, &namespace("shop")).await;
    create(&client, &policy("shop", "good", &ports("80"))).await;
    create(&client, &policy("shop", "bad", &ports("http"))).await;
    let mut watching = Watching::start(client.clone(), |objects| {
        let lost = get(objects, "good").is_none_or(|policy| policy.action != Action::Allow);
        lost.then(|| "the good policy is not in force".into())
    });
    let seen = watching.synced().await;
    let bad = get(&seen.objects, "bad").unwrap();
    assert_eq!(bad.action, Action::Deny, "it was never good, so it denies");
    let invalid = "weft_controller_invalid_objects{kind=\"AuthorizationPolicy\"}";
    assert_eq!(watching.metric(invalid), 1.0);
    let before = get(&seen.objects, "good").unwrap().clone();

    // A misspelt field reaches the controller: the CRD does not drop it.
    let misspelt = json!({"action": "ALLOW", "ruels": []});
    change(&client, &policy("shop", "good", &misspelt)).await;
    change(&client, &policy("shop", "bad", &ports("443"))).await;
    let seen = watching
        .until("the corrected policy", |objects| {
            get(objects, "bad").is_some_and(|policy| policy.action == Action::Allow)
        })
        .await;
    assert_eq!(*get(&seen.objects, "good").unwrap(), before);
    assert_eq!(watching.metric(invalid), 1.0, "the other one now");

    // Another controller never saw the good version: it denies.
    let mut other = Watching::start(client.clone(), |_| None);
    let seen = other.synced().await;
    assert_eq!(get(&seen.objects, "good").unwrap().action, Action::Deny);
    other.end().await;

    delete(&client, &policy("shop", "bad", &json!({}))).await;
    watching
        .until("its end", |objects| get(objects, "bad").is_none())
        .await;
    watching.end().await;
}
