//! The rights that are shipped suffice, with the token of a service account.

use kube::config::AuthInfo;
use kube::{Client, Config};
use lab::kubernetes::{ControlPlane, token};
use mesh_ctl::lease::Lease;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

use crate::cluster::{create, namespace, pod, policy};
use crate::status::until;
use crate::watching::{Watching, cluster};

const SHIPPED: &str = include_str!("../../../manifests/kustomize/base/controller-rbac.yaml");

/// Creates the roles and their bindings; the account is there.
async fn grant(client: &Client) {
    for document in serde_norway::Deserializer::from_str(SHIPPED) {
        let object = Value::deserialize(document).unwrap();
        if object["kind"] != "ServiceAccount" {
            create(client, &object).await;
        }
    }
}

async fn as_controller(control_plane: &ControlPlane, client: &Client) -> Client {
    let account = ("weft-system", "weft-controller");
    let audience = lab::kubernetes::ISSUER;
    let token = token(client, account, audience, None, Duration::from_secs(3600)).await;
    let mut config = Config::new(
        format!("https://{}", control_plane.address())
            .parse()
            .unwrap(),
    );
    config.root_cert_file = Some(control_plane.directory().join("ca.crt"));
    config.auth_info = AuthInfo {
        token: Some(token.unwrap().into()),
        ..AuthInfo::default()
    };
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_roles_are_enough() {
    let (control_plane, client) = cluster().await;
    for name in ["weft-system", "shop"] {
        create(&client, &namespace(name)).await;
    }
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"namespace": "weft-system", "name": "weft-controller"},
    });
    create(&client, &account).await;
    create(&client, &pod("shop", "web")).await;
    let custom = policy("shop", "custom", &json!({"action": "CUSTOM"}));
    create(&client, &custom).await;
    grant(&client).await;

    let own = as_controller(&control_plane, &client).await;
    let lease = Lease::new(own.clone(), "weft-system", "weft-policy-status", "it");
    let mut watching = Watching::with_status(own, lease);
    let seen = watching.synced().await;
    assert_eq!(seen.objects.pods.len(), 1);
    assert_eq!(seen.objects.authorization_policies.len(), 1);
    until(&client, &custom, "False", "NotEnforced").await;
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_see_policies_nothing_is_handed_on() {
    let (control_plane, client) = cluster().await;
    create(&client, &namespace("weft-system")).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"namespace": "weft-system", "name": "weft-controller"},
    });
    create(&client, &account).await;
    let own = as_controller(&control_plane, &client).await;
    let mut watching = Watching::start(own, |_| None);
    let refused = "weft_controller_watch_restarts_total{kind=\"Pod\",reason=\"refused\"}";
    watching.until_metric(refused, 2.0).await;
    assert_eq!(watching.now().replaced, 0);
    grant(&client).await;
    watching.synced().await;
    watching.end().await;
}
