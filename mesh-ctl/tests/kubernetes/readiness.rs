//! The whole controller over an API server: it is ready once it has seen everything, not before.

use clap::Parser;
use lab::kubernetes::Forwarder;
use mesh_ctl::config::Config;
use mesh_ctl::controller::Controller;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{create, namespace, policy};
use crate::watching::cluster;

const DEADLINE: Duration = Duration::from_secs(60);

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_every_kind_is_known() {
    let (control_plane, client) = cluster().await;
    create(&client, &namespace("shop")).await;
    create(&client, &policy("shop", "deny-all", &json!({}))).await;
    let forwarder = Forwarder::start(control_plane.address()).await.unwrap();
    forwarder.cut();

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let text = std::fs::read_to_string(control_plane.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    let server = format!("https://{}", forwarder.address());
    kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
    std::fs::write(at("kubeconfig"), kubeconfig.to_string()).unwrap();
    let jwk = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    std::fs::write(at("jwks.json"), jwk.to_string()).unwrap();
    let config = Config::parse_from([
        "mesh-controller".to_owned(),
        format!("--kubeconfig={}", at("kubeconfig")),
        format!("--ca-dir={}", at("ca")),
        format!("--jwks-file={}", at("jwks.json")),
        "--listen=127.0.0.1:0".into(),
        "--admin-addr=127.0.0.1:0".into(),
        "--node-account=weft-system/weft-node".into(),
        "--server-name=localhost".into(),
    ]);
    let controller = Controller::start(config).await.unwrap();
    let answer = get(controller.admin_address, "/healthz/ready").await;
    assert!(answer.contains(" 503 "), "{answer}");

    forwarder.restore();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = get(controller.admin_address, "/healthz/ready").await;
        if answer.contains(" 200 ") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let resources = get(controller.admin_address, "/debug/resources").await;
    assert!(resources.contains("shop/deny-all"), "{resources}");
    controller.shutdown().await;
}
