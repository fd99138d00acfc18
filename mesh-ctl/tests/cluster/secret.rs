//! The authority in a Secret: made once, followed, and rotated.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_ctl::ca::material::SecretName;
use mesh_ctl::ca::rotation::{self, Moment};
use mesh_ctl::ca::store::Store;
use mesh_ctl::ca::{Authority, CaError, Follower, SecretStore};
use mesh_ctl::metrics::Metrics;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::ApiServer;
use crate::wait::eventually;

const SECRETS: &str = "/api/v1/namespaces/weft-system/secrets";
const PATH: &str = "/api/v1/namespaces/weft-system/secrets/weft-ca";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn store(server: &ApiServer) -> Store {
    let name: SecretName = "weft-system/weft-ca".parse().unwrap();
    Store::Secret(Box::new(SecretStore::new(server.client(), name)))
}

struct Running {
    authority: Arc<Authority>,
    metrics: Metrics,
    _stop: DropGuard,
}

impl Running {
    async fn start(server: &ApiServer) -> Self {
        let metrics = Metrics::default();
        let (authority, follower) = Follower::open(store(server), DAY, metrics.clone())
            .await
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        Self {
            authority,
            metrics,
            _stop: stop.drop_guard(),
        }
    }

    fn roots(&self) -> String {
        self.authority.current().roots_pem()
    }

    fn refusals(&self) -> usize {
        let text = self.metrics.render().unwrap();
        let name = "weft_controller_ca_loads_total{outcome=\"invalid\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replicas_that_start_at_once_one_makes_it() {
    let server = ApiServer::start().await;
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { store(&server).read_or_create().await.unwrap() })
        })
        .collect();
    let mut all = Vec::new();
    for one in starting {
        all.push(one.await.unwrap());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    let data = server.object(PATH).unwrap()["data"].clone();
    let stored = STANDARD
        .decode(data["ca-key.pem"].as_str().unwrap())
        .unwrap();
    assert_eq!(all[0].get("ca-key.pem").unwrap(), stored);
}

#[tokio::test]
async fn the_loser_of_the_race_reads_what_the_winner_made() {
    let server = ApiServer::start().await;
    let winner = store(&server).read_or_create().await.unwrap();
    let made = server.object(PATH).unwrap();
    server.delete(PATH);
    // The Secret comes to be between this one's read and its create.
    let between = server.clone();
    server.answer(SECRETS, move |_| {
        between.create(PATH, made.clone());
        Err(409)
    });
    let loser = store(&server).read_or_create().await.unwrap();
    assert_eq!(winner, loser);
}

#[tokio::test]
async fn an_empty_secret_is_filled_and_what_else_is_in_it_stays() {
    let server = ApiServer::start().await;
    let other = json!({
        "apiVersion": "v1", "kind": "Secret", "data": {"other": "eA=="},
        "metadata": {"name": "weft-ca", "namespace": "weft-system", "labels": {"a": "b"}},
    });
    server.create(PATH, other);
    store(&server).read_or_create().await.unwrap();
    let secret = server.object(PATH).unwrap();
    assert!(secret["data"]["ca-cert.pem"].is_string());
    assert_eq!(secret["data"]["other"], "eA==");
    assert_eq!(secret["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn a_change_is_put_in_force_and_a_bad_one_is_not() {
    let server = ApiServer::start().await;
    let running = Running::start(&server).await;
    let (before, good) = (running.roots(), server.object(PATH).unwrap());
    server.edit(PATH, |secret| {
        secret["data"]["ca-key.pem"] = STANDARD.encode("no key").into();
    });
    eventually("the bad key is seen", || running.refusals() == 1).await;
    server.delete(PATH);
    eventually("the loss is seen", || running.refusals() == 2).await;
    assert_eq!(running.roots(), before);

    let other = ApiServer::start().await;
    let material = store(&other).read_or_create().await.unwrap();
    let theirs = other.object(PATH).unwrap()["data"].clone();
    let mut replaced = good;
    replaced["data"] = theirs;
    server.create(PATH, replaced);
    let wanted = material.get("root-cert.pem").unwrap().to_vec();
    eventually("the other authority signs", || {
        running.roots().into_bytes() == wanted
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_fails_is_named() {
    let server = ApiServer::start().await;
    server.fail_with(Some(403));
    let error = store(&server).read_or_create().await.unwrap_err();
    let line = error.to_string();
    assert!(
        line.starts_with("Secret weft-system/weft-ca: get failed"),
        "{line}"
    );
    assert!(line.contains("RBAC"), "{line}");
}

#[tokio::test]
async fn a_step_on_what_somebody_else_changed_is_refused() {
    let server = ApiServer::start().await;
    let store = store(&server);
    store.read_or_create().await.unwrap();
    let read = store.read().await.unwrap().unwrap();
    let moment = Moment {
        now: std::time::SystemTime::now(),
        ttl: DAY,
        force: false,
    };
    let prepared = rotation::prepare(&read.material, None, store.place(), &moment).unwrap();
    server.edit(PATH, |secret| {
        secret["metadata"]["labels"]["x"] = "y".into();
    });
    let Err(error) = store.write(&read, &prepared).await else {
        panic!("was written")
    };
    assert!(matches!(error, CaError::Raced { .. }), "{error}");
    assert_eq!(
        server.object(PATH).unwrap()["data"]["rotation.json"],
        Value::Null
    );
}

fn command(kubeconfig: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-controller"))
        .arg("ca")
        .args(arguments)
        .args(["--ca-secret", "weft-system/weft-ca", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_in_a_secret_is_rotated() {
    let server = ApiServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig(directory.path());
    let (good, text) = command(&kubeconfig, &["status"]);
    assert!(
        !good && text.contains("there is no certificate authority yet"),
        "{text}"
    );

    let running = Running::start(&server).await;
    let old = running.roots();
    let step = |arguments: &[&str]| {
        let (good, text) = command(&kubeconfig, arguments);
        assert!(good, "{arguments:?}: {text}");
    };
    step(&["prepare"]);
    eventually("both roots", || {
        running.roots().matches("BEGIN").count() == 2
    })
    .await;
    let (good, text) = command(&kubeconfig, &["activate"]);
    assert!(!good && text.contains("Run it again after"), "{text}");
    step(&["activate", "--force"]);
    step(&["finish", "--force"]);
    eventually("the new root alone", || {
        running.roots().matches("BEGIN").count() == 1 && running.roots() != old
    })
    .await;
    assert_eq!(running.refusals(), 0);
    let data = server.object(PATH).unwrap()["data"].clone();
    let left: Vec<_> = data.as_object().unwrap().keys().cloned().collect();
    assert_eq!(left, ["ca-cert.pem", "ca-key.pem", "root-cert.pem"]);
}
