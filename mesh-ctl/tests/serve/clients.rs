//! Clients as operators see them, clients that misbehave, and clients that go elsewhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_common::proto::xds::{DeltaDiscoveryRequest, Status};
use mesh_ctl::resources::Kind;
use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio_rustls::TlsConnector;
use tonic::Code;

use crate::discovery::{Node, POD};
use crate::fixture::{DEADLINE, Fixture, eventually};

const SILENT: &str = "weft_controller_dropped_streams_total{outcome=\"silent\"}";

async fn json(fixture: &Fixture, path: &str) -> Value {
    let answer = fixture.get(path).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn what_each_client_was_sent_and_refused_is_shown() {
    let fixture = Fixture::start().await;
    assert_eq!(
        json(&fixture, "/debug/clients").await,
        serde_json::json!([])
    );
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    let (_, mut refusal) = node.receive().await;
    refusal.error_detail = Some(Status {
        code: 3,
        message: "resource \"Kubernetes//Pod/shop/web\": odd".into(),
        details: vec![],
    });
    node.requests.send(refusal).await.unwrap();
    let refused = "weft_controller_refused_resources_total{type=\"address\",node=\"n1\",\
                   resource=\"Kubernetes//Pod/shop/web\"}";
    eventually("the refusal is counted", || async {
        fixture.metric(refused).await == 1.0
    })
    .await;
    let clients = json(&fixture, "/debug/clients").await;
    let client = &clients[0];
    assert!(
        client["caller"].as_str().unwrap().contains("on n1"),
        "{client}"
    );
    assert!(
        client["address"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let addresses = &client["types"]["address"];
    assert_eq!(addresses["wildcard"], true);
    assert_eq!(addresses["lastPush"]["resources"], 2);
    assert_eq!(addresses["lastPush"]["generation"], 1);
    assert_eq!(addresses["answeredGeneration"], 1);
    let reason = addresses["lastRefusal"]["reason"].as_str().unwrap();
    assert!(reason.contains("odd"), "{reason}");
    assert_eq!(client["types"]["authorization"]["lastRefusal"], Value::Null);
    assert!(fixture.metric("weft_controller_sent_bytes_total").await > 100.0);
    drop(node);
    eventually("the client is gone", || async {
        json(&fixture, "/debug/clients").await == serde_json::json!([])
    })
    .await;
}

#[tokio::test]
async fn resources_are_shown_by_kind_and_by_name() {
    let fixture = Fixture::start().await;
    let policies = json(&fixture, "/debug/resources?kind=authorization").await;
    let names: Vec<&String> = policies.as_object().unwrap().keys().collect();
    assert_eq!(names, ["shop/deny-all"]);
    let found = json(&fixture, "/debug/resources?name=/10.0.0.2").await;
    assert!(
        found["Kubernetes//Pod/shop/db"]["version"].is_string(),
        "{found}"
    );
    let answer = fixture.get("/debug/resources?name=none").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = fixture.get("/debug/resources?kind=pods").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn the_latency_of_a_change_is_measured_for_each_client() {
    let fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    node.next().await;
    let count = "weft_controller_push_latency_seconds_count";
    assert_eq!(
        fixture.metric(count).await,
        0.0,
        "a first sync is no change"
    );
    fixture.write("extra.yaml", POD);
    assert_eq!(node.next().await, "address: +extra");
    eventually("the push is measured", || async {
        fixture.metric(count).await == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_fails_over_is_sent_nothing_that_it_holds() {
    let mut fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    node.next().await;
    // This controller has a past that the other has not.
    for address in ["10.0.0.3", "10.0.0.4"] {
        fixture.write("extra.yaml", &POD.replace("10.0.0.3", address));
        assert_eq!(node.next().await, "address: +extra");
    }
    let first = fixture.fail_over().await;
    let held = std::mem::take(&mut node.held);
    let mut other = Node::subscribed(&fixture, held).await;
    assert_eq!(other.next().await, "authorization:");
    assert_eq!(other.next().await, "address:");
    fixture.write("extra.yaml", POD);
    assert_eq!(other.next().await, "address: +extra");
    assert_eq!(node.next().await, "address: +extra");
    assert_eq!(other.held[&Kind::Address], {
        let mut versions = other.held[&Kind::Address].clone();
        versions.extend(node.held.remove(&Kind::Address).unwrap());
        versions
    });
    first.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_with_a_reason() {
    let mut fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    node.next().await;
    let controller = fixture.controller.take().unwrap();
    let (end, ()) = tokio::join!(node.responses.message(), controller.shutdown());
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("shutting down"), "{status}");
}

#[tokio::test]
async fn who_reads_but_does_not_acknowledge_is_told_and_dropped() {
    let fixture = Fixture::start_with(&["--node-patience=1s"]).await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.receive().await;
    node.receive().await;
    let end = tokio::time::timeout(DEADLINE, node.responses.message()).await;
    let status = end.unwrap().unwrap_err();
    assert!(status.message().contains("no acknowledgement"), "{status}");
    assert_eq!(fixture.metric(SILENT).await, 1.0);
}

/// It takes not one byte of the response, answers pings, and goes on sending.
#[tokio::test]
async fn who_does_not_read_is_cut_off_whatever_it_sends() {
    let fixture = Fixture::start_with(&["--node-patience=1s"]).await;
    let mut roots = RootCertStore::empty();
    let root = std::fs::read(fixture.path("ca/root-cert.pem")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&root).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect(fixture.address())
        .await
        .unwrap();
    let name = ServerName::try_from("controller.test").unwrap();
    let tls = TlsConnector::from(Arc::new(tls));
    let stream = tls.connect(name, tcp).await.unwrap();
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(1)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let mut connection = tokio::spawn(connection);
    let request = http::Request::post(
        "https://controller.test/envoy.service.discovery.v3.AggregatedDiscoveryService/\
         DeltaAggregatedResources",
    )
    .header("content-type", "application/grpc")
    .header("authorization", format!("Bearer {}", fixture.token("n1")))
    .body(())
    .unwrap();
    let mut requests = requests.ready().await.unwrap();
    let (response, mut outgoing) = requests.send_request(request, false).unwrap();
    let mut send = |request: &DeltaDiscoveryRequest| {
        let mut message = vec![0];
        message.extend((request.encoded_len() as u32).to_be_bytes());
        message.extend(request.encode_to_vec());
        outgoing.send_data(message.into(), false)
    };
    for kind in Kind::ALL {
        let subscribe = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            ..Default::default()
        };
        send(&subscribe).unwrap();
    }
    let body = response.await.unwrap().into_body();
    let chatter = DeltaDiscoveryRequest {
        type_url: Kind::Address.type_url().into(),
        response_nonce: "none of yours".into(),
        ..Default::default()
    };
    let cut = async {
        loop {
            tokio::select! {
                ended = &mut connection => break ended,
                () = tokio::time::sleep(Duration::from_millis(50)) => drop(send(&chatter)),
            }
        }
    };
    let ended = tokio::time::timeout(DEADLINE, cut).await;
    ended.expect("it was never cut off").unwrap().ok();
    drop(body);
    assert_eq!(fixture.metric(SILENT).await, 1.0);
    eventually("nothing is left of it", || async {
        fixture.metric("weft_controller_connected_nodes").await == 0.0
    })
    .await;
}
