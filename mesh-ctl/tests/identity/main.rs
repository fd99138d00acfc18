//! Identities against a real API server (see `cargo xtask k8s`): its tokens, a Secret that replicas race
//! for, a Lease, and the published roots.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lab::kubernetes::{ControlPlane, ISSUER, token};
use mesh_ctl::auth::{Authenticator, Caller, Refusal, TokenReviews, Verifier};
use mesh_ctl::ca::bundle::{Publisher, Target};
use mesh_ctl::ca::store::Store;
use mesh_ctl::ca::{Authority, Follower, Place, SecretStore, Signer};
use mesh_ctl::lease::Lease;
use mesh_ctl::metrics::Metrics;
use serde::de::{Deserialize as _, DeserializeOwned};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

const AGENT: (&str, &str) = ("weft-system", "weft-node");
const CONTROLLER: (&str, &str) = ("weft-system", "weft-controller");
const HOUR: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(60);

async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !ask().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

async fn namespace(client: &Client, name: &str, labels: Value) {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = object(json!({"metadata": {"name": name, "labels": labels}}));
    api.create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

async fn account(client: &Client, (namespace, name): (&str, &str)) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = object(json!({"metadata": {"name": name}}));
    api.create(&PostParams::default(), &account).await.unwrap();
}

/// The agent's pod on that node.
async fn agent(client: &Client, name: &str, node: &str) {
    let api: Api<Pod> = Api::namespaced(client.clone(), AGENT.0);
    let pod = object(json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node, "serviceAccountName": AGENT.1,
            "containers": [{"name": "agent", "image": "none"}],
        },
    }));
    api.create(&PostParams::default(), &pod).await.unwrap();
}

/// The controller as it runs in a cluster: a service account with the roles that Weft ships.
async fn controller(plane: &ControlPlane) -> Client {
    let client = plane.client().await.unwrap();
    namespace(&client, AGENT.0, json!({})).await;
    account(&client, CONTROLLER).await;
    let shipped = include_str!("../../../manifests/kustomize/base/controller-rbac.yaml");
    let params = PostParams::default();
    for document in serde_norway::Deserializer::from_str(shipped) {
        let shipped = Value::deserialize(document).unwrap();
        let created = match shipped["kind"].as_str().unwrap() {
            "ClusterRole" => {
                let api: Api<ClusterRole> = Api::all(client.clone());
                api.create(&params, &object(shipped)).await.map(drop)
            }
            "ClusterRoleBinding" => {
                let api: Api<ClusterRoleBinding> = Api::all(client.clone());
                api.create(&params, &object(shipped)).await.map(drop)
            }
            "Role" => {
                let api: Api<Role> = Api::namespaced(client.clone(), CONTROLLER.0);
                api.create(&params, &object(shipped)).await.map(drop)
            }
            "RoleBinding" => {
                let api: Api<RoleBinding> = Api::namespaced(client.clone(), CONTROLLER.0);
                api.create(&params, &object(shipped)).await.map(drop)
            }
            other => {
                assert_eq!(other, "ServiceAccount");
                Ok(())
            }
        };
        created.unwrap();
    }

    let token = token(&client, CONTROLLER, ISSUER, None, HOUR)
        .await
        .unwrap();
    let mut kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(object(json!({ "token": token })));
    }
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let limited = Client::try_from(config.unwrap()).unwrap();
    // Bindings take effect with the authorizer's watch.
    eventually("the roles are in force", || async {
        let reviews: Api<Secret> = Api::namespaced(limited.clone(), CONTROLLER.0);
        reviews.get_opt("weft-ca").await.is_ok()
    })
    .await;
    limited
}

fn authenticator(client: &Client) -> Authenticator {
    let reviews = TokenReviews::new(client.clone(), "istio-ca".into());
    let nodes = [format!("{}/{}", AGENT.0, AGENT.1).parse().unwrap()];
    Authenticator::new(Verifier::Reviews(reviews), nodes)
}

async fn ask(authenticator: &Authenticator, token: &str) -> Result<Caller, Refusal> {
    let mut metadata = MetadataMap::new();
    let bearer = format!("Bearer {token}").parse().unwrap();
    metadata.insert("authorization", bearer);
    authenticator.node(&metadata, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_agents_are_told_from_others() {
    let plane = ControlPlane::start().await.unwrap();
    let limited = controller(&plane).await;
    let client = plane.client().await.unwrap();
    account(&client, AGENT).await;
    account(&client, (AGENT.0, "other")).await;
    agent(&client, "weft-node-1", "n1").await;

    let bound = token(&client, AGENT, "istio-ca", Some("weft-node-1"), HOUR);
    let bound = bound.await.unwrap();
    let caller = ask(&authenticator(&limited), &bound).await.unwrap();
    assert_eq!(caller.to_string(), "weft-system/weft-node on n1");
    let left = caller.expires.duration_since(SystemTime::now()).unwrap();
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");

    let refused = async |token: &str| {
        let refusal = ask(&authenticator(&limited), token).await.unwrap_err();
        refusal.reason()
    };
    let elsewhere = token(&client, AGENT, "elsewhere", Some("weft-node-1"), HOUR);
    assert_eq!(refused(&elsewhere.await.unwrap()).await, "token_audience");
    let unbound = token(&client, AGENT, "istio-ca", None, HOUR).await.unwrap();
    assert_eq!(refused(&unbound).await, "token_claims");
    let mut forged = bound.clone();
    forged.truncate(bound.len() - 8);
    forged += "AAAAAAAA";
    assert_eq!(refused(&forged).await, "token_not_authenticated");

    // The pod is gone, and with it the token; another of its name does not bring it back.
    let pods: Api<Pod> = Api::namespaced(client.clone(), AGENT.0);
    let now = DeleteParams::default().grace_period(0);
    pods.delete("weft-node-1", &now).await.unwrap();
    agent(&client, "weft-node-1", "n2").await;
    // The API server itself remembers tokens for some seconds; the pod's uid is compared here too.
    let reason = refused(&bound).await;
    assert!(
        ["token_pod", "token_not_authenticated"].contains(&reason),
        "{reason}"
    );
}

fn store(client: &Client) -> Store {
    let name = "weft-system/weft-ca".parse().unwrap();
    Store::Secret(Box::new(SecretStore::new(client.clone(), name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_one_authority_through_its_rotation() {
    let plane = ControlPlane::start().await.unwrap();
    let limited = controller(&plane).await;
    let client = plane.client().await.unwrap();
    let starting = (0..4).map(|_| {
        let store = store(&limited);
        tokio::spawn(async move { Follower::open(store, 24 * HOUR, Metrics::default()).await })
    });
    let starting: Vec<_> = starting.collect();
    let stop = CancellationToken::new();
    let mut replicas = Vec::new();
    for one in starting {
        let (authority, follower) = one.await.unwrap().unwrap();
        tokio::spawn(follower.run(stop.clone()));
        replicas.push(authority);
    }
    let roots = |authority: &Arc<Authority>| authority.current().roots_pem();
    let first = roots(&replicas[0]);
    assert!(replicas.iter().all(|replica| roots(replica) == first));

    let command = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-controller"))
            .arg("ca")
            .args(arguments)
            .args(["--ca-secret", "weft-system/weft-ca", "--kubeconfig"])
            .arg(plane.kubeconfig())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), error)
    };
    let everywhere = async |what: &str, good: &dyn Fn(&str) -> bool| {
        let all = || async { replicas.iter().all(|replica| good(&roots(replica))) };
        eventually(what, all).await;
    };
    assert_eq!(command(&["prepare"]), (true, String::new()));
    let both = |roots: &str| roots.matches("BEGIN").count() == 2;
    everywhere("both roots", &both).await;
    let (taken, error) = command(&["activate"]);
    assert!(!taken && error.contains("Run it again after"), "{error}");
    assert_eq!(command(&["activate", "--force"]), (true, String::new()));
    assert_eq!(command(&["finish", "--force"]), (true, String::new()));
    let new = |roots: &str| roots.matches("BEGIN").count() == 1 && roots != first;
    everywhere("the new root alone", &new).await;

    // A bad edit stays out of force everywhere.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), AGENT.0);
    let after = roots(&replicas[0]);
    let bad = Patch::Merge(json!({"stringData": {"ca-key.pem": "nothing"}}));
    let params = PatchParams::default();
    secrets.patch("weft-ca", &params, &bad).await.unwrap();
    assert!(!command(&["status"]).0);
    let again = Follower::open(store(&limited), 24 * HOUR, Metrics::default()).await;
    assert!(again.is_err(), "who starts now is told");
    assert!(replicas.iter().all(|replica| roots(replica) == after));
    stop.cancel();
}

fn signer() -> Signer {
    let now = SystemTime::now();
    let place = Place::Directory("ca".into());
    Signer::load(&Signer::create(now).unwrap(), &place, now).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_lease_publishes_the_roots_and_another_takes_over() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client().await.unwrap();
    let limited = controller(&plane).await;
    let enrolled = json!({"istio.io/dataplane-mode": "ambient"});
    namespace(&client, "shop", enrolled.clone()).await;
    namespace(&client, "plain", json!({})).await;
    let authority = Arc::new(Authority::new(signer()));
    let replica = |name: &str| {
        let stop = CancellationToken::new();
        let lease = Lease::new(limited.clone(), AGENT.0, "weft-root-bundle", name);
        let (held, holder) = lease.lasting(Duration::from_secs(5)).start(stop.clone());
        let target = Target {
            name: "istio-ca-root-cert".into(),
            label: "istio.io/dataplane-mode".into(),
            value: "ambient".into(),
            always: [AGENT.0.to_owned()].into(),
        };
        let authority = Arc::clone(&authority);
        let publisher = Publisher::new(limited.clone(), target, authority, Metrics::default());
        tokio::spawn(publisher.run(held.clone(), stop.clone()));
        (held, holder, stop)
    };
    let (mut first, holder, stop) = replica("a");
    first.wait_for(|held| *held).await.unwrap();
    let (second, _, _second) = replica("b");
    let published = async |namespace: &str| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let map = api.get_opt("istio-ca-root-cert").await.unwrap()?;
        map.data?.remove("root-cert.pem")
    };
    let wanted = || Some(authority.current().roots_pem());
    let everywhere = async |what: &str| {
        for namespace in ["shop", AGENT.0] {
            eventually(what, || async { published(namespace).await == wanted() }).await;
        }
    };
    everywhere("the roots are published").await;
    assert_eq!(published("plain").await, None);
    assert!(!*second.borrow());

    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let forged = Patch::Merge(json!({"data": {"root-cert.pem": "forged"}}));
    let params = PatchParams::default();
    maps.patch("istio-ca-root-cert", &params, &forged)
        .await
        .unwrap();
    everywhere("the edit is repaired").await;
    let now = DeleteParams::default();
    maps.delete("istio-ca-root-cert", &now).await.unwrap();
    everywhere("the loss is repaired").await;
    authority.replace(signer());
    everywhere("the new root is published").await;

    // Killed, without giving the lease back.
    holder.abort();
    stop.cancel();
    let mut second = second;
    second.wait_for(|held| *held).await.unwrap();
    maps.delete("istio-ca-root-cert", &now).await.unwrap();
    everywhere("the other repairs").await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let enrol = Patch::Merge(json!({"metadata": {"labels": enrolled}}));
    namespaces.patch("plain", &params, &enrol).await.unwrap();
    eventually("a namespace enrolled later has them", || async {
        published("plain").await == wanted()
    })
    .await;
}
