//! Whole controllers over one cluster: they share the authority, and go on without each other.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Parser;
use mesh_common::proto::auth::IstioCertificateRequest;
use mesh_common::proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_ctl::config::Config;
use mesh_ctl::controller::Controller;
use prost_types::value::Kind;
use prost_types::{Struct, Value as Protobuf};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;
use tonic::Request;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::api::ApiServer;
use crate::wait::eventually;

const SECRET: &str = "/api/v1/namespaces/istio-system/secrets/weft-ca";
const ROOTS: &str = "/api/v1/namespaces/weft-system/configmaps/istio-ca-root-cert";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: n1, serviceAccountName: web}
status: {podIP: 10.0.0.1}
";

fn config(server: &ApiServer, directory: &std::path::Path) -> Config {
    let objects = directory.join("config");
    std::fs::create_dir_all(&objects).unwrap();
    std::fs::write(objects.join("cluster.yaml"), CLUSTER).unwrap();
    Config::parse_from([
        "mesh-controller".to_owned(),
        format!("--config-dir={}", objects.display()),
        format!("--kubeconfig={}", server.kubeconfig(directory).display()),
        "--ca-secret=istio-system/weft-ca".into(),
        "--token-review".into(),
        "--publish-roots".into(),
        "--listen=127.0.0.1:0".into(),
        "--admin-addr=127.0.0.1:0".into(),
        "--node-account=weft-system/weft-node".into(),
        "--server-name=controller.test".into(),
    ])
}

fn root(server: &ApiServer) -> String {
    let secret = server.object(SECRET).unwrap();
    let root = secret["data"]["root-cert.pem"].as_str().unwrap();
    String::from_utf8(STANDARD.decode(root).unwrap()).unwrap()
}

fn token() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let claims = json!({"sub": "x", "aud": "istio-ca", "exp": now.as_secs() + 600});
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{payload}.signature")
}

/// The roots that come with a certificate from that replica.
async fn certificate(server: &ApiServer, replica: &Controller) -> String {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(root(server)))
        .domain_name("controller.test");
    let endpoint = Endpoint::from_shared(format!("https://{}", replica.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
    let csr = params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    let asked = Protobuf {
        kind: Some(Kind::StringValue(WEB.into())),
    };
    let mut request = Request::new(IstioCertificateRequest {
        csr: csr.pem().unwrap(),
        validity_duration: 3600,
        metadata: Some(Struct {
            fields: [("ImpersonatedIdentity".to_owned(), asked)].into(),
        }),
    });
    let bearer = format!("Bearer {}", token()).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(request).await.unwrap();
    answer.into_inner().cert_chain.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_are_one_authority() {
    let server = ApiServer::start().await;
    server.answer("/apis/authentication.k8s.io/v1/tokenreviews", |review| {
        let mut answer = review.clone();
        answer["status"] = json!({
            "authenticated": true, "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:weft-system:weft-node",
                "extra": {"authentication.kubernetes.io/node-name": ["n1"]},
            },
        });
        Ok(answer)
    });
    let agents = json!({"metadata": {"name": "weft-system"}});
    server.create("/api/v1/namespaces/weft-system", agents);
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (config(&server, a.path()), config(&server, b.path()));
    let (first, second) = tokio::join!(Controller::start(a), Controller::start(b));
    let (first, second) = (first.unwrap(), second.unwrap());
    let roots = root(&server);
    assert_eq!(certificate(&server, &first).await, roots);
    assert_eq!(certificate(&server, &second).await, roots);
    let published = || Some(server.object(ROOTS)?["data"]["root-cert.pem"].clone());
    eventually("the roots are published", || {
        published() == Some(roots.clone().into())
    })
    .await;

    // Whichever of them published it: the other goes on.
    first.shutdown().await;
    server.delete(ROOTS);
    eventually("the roots are published again", || {
        published() == Some(roots.clone().into())
    })
    .await;
    assert_eq!(certificate(&server, &second).await, roots);
    let stopped = tokio::time::timeout(Duration::from_secs(20), second.shutdown());
    stopped.await.unwrap();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/weft-root-bundle";
    let holder = server.object(lease).unwrap()["spec"]["holderIdentity"].clone();
    assert!(holder.is_null(), "it is given back: {holder}");
}
