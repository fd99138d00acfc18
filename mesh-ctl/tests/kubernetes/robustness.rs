//! Servers that restart and forget, kinds that come late, many objects: nothing is missed, and nothing is
//! forgotten meanwhile.

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lab::kubernetes::{ControlPlane, Forwarder};
use mesh_ctl::model::{ObjectName, Objects};
use serde_json::json;

use crate::cluster::{create, delete, namespace, pod, policy};
use crate::watching::{Watching, cluster};

fn has_policy(objects: &Objects, name: &str) -> bool {
    let name = ObjectName::new("shop", name);
    objects.authorization_policies.contains_key(&name)
}

fn has_pod(objects: &Objects, name: &str) -> bool {
    objects.pods.contains_key(&ObjectName::new("shop", name))
}

/// A client that goes through a forwarder.
async fn through(control_plane: &ControlPlane, forwarder: &Forwarder) -> Client {
    let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    config.cluster_url = format!("https://{}", forwarder.address()).parse().unwrap();
    Client::try_from(config).unwrap()
}

async fn shop(client: &Client) {
    create(client, &namespace("shop")).await;
    create(client, &policy("shop", "stays", &json!({}))).await;
    create(client, &pod("shop", "old")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_takes_nothing_with_it() {
    let (mut control_plane, client) = cluster().await;
    shop(&client).await;
    let mut watching = Watching::start(client.clone(), |objects| {
        let whole = has_policy(objects, "stays") && has_pod(objects, "old");
        (!whole).then(|| "an object is missing".into())
    });
    watching.synced().await;
    for round in 0..2 {
        control_plane.kill_apiserver().unwrap();
        control_plane.start_apiserver().await.unwrap();
        let name = format!("new-{round}");
        create(&client, &pod("shop", &name)).await;
        create(&client, &policy("shop", &name, &json!({}))).await;
        watching
            .until("what came after the restart", |objects| {
                has_pod(objects, &name) && has_policy(objects, &name)
            })
            .await;
    }
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_expired_is_renewed_by_comparing() {
    let (mut control_plane, client) = cluster().await;
    shop(&client).await;
    create(&client, &policy("shop", "goes", &json!({}))).await;
    create(&client, &pod("shop", "goes")).await;
    let forwarder = Forwarder::start(control_plane.address()).await.unwrap();
    let watched = through(&control_plane, &forwarder).await;
    let mut watching = Watching::start(watched, |objects| {
        if !has_policy(objects, "stays") || !has_pod(objects, "old") {
            return Some("an object that stayed is missing".into());
        }
        let bare = has_pod(objects, "new") && !has_policy(objects, "new");
        bare.then(|| "a pod is seen before the policy that was written first".into())
    });
    watching.synced().await;

    forwarder.cut();
    delete(&client, &policy("shop", "goes", &json!({}))).await;
    delete(&client, &pod("shop", "goes")).await;
    create(&client, &policy("shop", "new", &json!({}))).await;
    create(&client, &pod("shop", "new")).await;
    // What happened is forgotten by etcd, and by the server's cache.
    control_plane.compact().unwrap();
    control_plane.kill_apiserver().unwrap();
    control_plane.start_apiserver().await.unwrap();
    forwarder.restore();

    watching
        .until("the state as it is now", |objects| {
            has_pod(objects, "new")
                && has_policy(objects, "new")
                && !has_pod(objects, "goes")
                && !has_policy(objects, "goes")
        })
        .await;
    let gone = "weft_controller_watch_restarts_total{kind=\"Pod\",reason=\"gone\"}";
    assert!(watching.metric(gone) >= 1.0, "the server remembered");
    for kind in ["Pod", "AuthorizationPolicy"] {
        let lists = format!("weft_controller_watch_lists_total{{kind=\"{kind}\"}}");
        assert!(watching.metric(&lists) >= 2.0, "{lists}");
    }
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_comes_later_is_picked_up() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    create(&client, &namespace("shop")).await;
    let mut watching = Watching::start(client.clone(), |_| None);
    let seen = watching.synced().await;
    assert!(seen.objects.authorization_policies.is_empty());
    lab::kubernetes::crds::install(&client).await.unwrap();
    create(&client, &policy("shop", "late", &json!({}))).await;
    watching
        .until("the policy", |objects| has_policy(objects, "late"))
        .await;
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_definition_is_read_in_its_version() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    create(&client, &namespace("shop")).await;
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../manifests/crds/authorization-policies.yaml"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut definition: CustomResourceDefinition = serde_norway::from_str(&text).unwrap();
    let versions = &mut definition.spec.versions;
    versions.retain(|version| version.name == "v1beta1");
    versions[0].storage = true;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.create(&PostParams::default(), &definition)
        .await
        .unwrap();
    // Leaves the one that is there, and waits for it.
    lab::kubernetes::crds::install(&client).await.unwrap();
    let mut old = policy("shop", "old", &json!({}));
    old["apiVersion"] = json!("security.istio.io/v1beta1");
    create(&client, &old).await;
    let mut watching = Watching::start(client.clone(), |_| None);
    let seen = watching.synced().await;
    assert!(has_policy(&seen.objects, "old"));
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_many_is_missed() {
    const MANY: usize = 2_000;
    let (_control_plane, client) = cluster().await;
    shop(&client).await;
    // More than one page is there before the first list.
    let make = |range: std::ops::Range<usize>| {
        let client = client.clone();
        stream::iter(range).for_each_concurrent(16, move |i| {
            let client = client.clone();
            async move {
                create(&client, &pod("shop", &format!("p{i}"))).await;
            }
        })
    };
    make(0..MANY / 2).await;
    let mut watching = Watching::start(client.clone(), |objects| {
        (!has_policy(objects, "stays")).then(|| "the policy is missing".into())
    });
    make(MANY / 2..MANY).await;
    watching
        .until("every pod", |objects| {
            (0..MANY).all(|i| has_pod(objects, &format!("p{i}")))
        })
        .await;
    assert_eq!(
        watching.metric("weft_controller_watch_lists_total{kind=\"Pod\"}"),
        1.0,
        "the watch missed nothing, so nothing was listed again"
    );
    watching.end().await;
}
