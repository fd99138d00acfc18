//! Certificates: who gets one, who does not, and why.

use std::time::SystemTime;

use mesh_common::proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_common::proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::{Code, Status};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fixture::{CLUSTER, Fixture, eventually, in_seconds, jwks, sign, with_token};

pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const NODE: &str = "spiffe://cluster.local/ns/weft-system/sa/weft-node";
const DB: &str = "spiffe://cluster.local/ns/shop/sa/db";

/// A request for a fresh key that names `named`.
pub(crate) fn csr(named: &str) -> (KeyPair, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(named.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

pub(crate) fn message(
    identity: Option<&str>,
    csr: String,
    seconds: i64,
) -> IstioCertificateRequest {
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.into())),
    };
    let metadata = identity.map(|identity| Struct {
        fields: [("ImpersonatedIdentity".to_owned(), value(identity))].into(),
    });
    IstioCertificateRequest {
        csr,
        validity_duration: seconds,
        metadata,
    }
}

pub(crate) async fn send(
    fixture: &Fixture,
    token: &str,
    message: IstioCertificateRequest,
) -> Result<IstioCertificateResponse, Status> {
    let mut client = IstioCertificateServiceClient::new(fixture.channel().await);
    client
        .create_certificate(with_token(message, token))
        .await
        .map(tonic::Response::into_inner)
}

async fn request(
    fixture: &Fixture,
    token: &str,
    identity: Option<&str>,
    named: &str,
) -> Result<IstioCertificateResponse, Status> {
    send(fixture, token, message(identity, csr(named).1, 3600)).await
}

pub(crate) fn leaf(response: &IstioCertificateResponse) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(response.cert_chain[0].as_bytes()).unwrap()
}

/// Seconds from now to the end of the leaf.
fn left(response: &IstioCertificateResponse) -> i64 {
    let leaf = leaf(response);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    leaf.validity().not_after.timestamp() - in_seconds(0)
}

async fn refused(fixture: &Fixture, token: &str, identity: &str, reason: &str) -> Status {
    let metric =
        format!("weft_controller_certificates_total{{outcome=\"refused\",reason=\"{reason}\"}}");
    let before = fixture.metric(&metric).await;
    let status = request(fixture, token, Some(identity), identity)
        .await
        .unwrap_err();
    assert_eq!(
        fixture.metric(&metric).await,
        before + 1.0,
        "{reason}: {status}"
    );
    status
}

#[tokio::test]
async fn a_node_gets_the_identities_that_run_on_it() {
    let fixture = Fixture::start().await;
    let response = request(&fixture, &fixture.token("n1"), Some(WEB), WEB)
        .await
        .unwrap();
    assert_eq!(response.cert_chain.len(), 2, "leaf and root");
    let root = std::fs::read_to_string(fixture.path("ca/root-cert.pem")).unwrap();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(der(&response.cert_chain[1]), der(&root));
    let left = left(&response);
    assert!((3500..=3600).contains(&left), "{left} s");
    assert_eq!(
        fixture
            .metric("weft_controller_certificates_total{outcome=\"issued\",reason=\"none\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn who_names_no_identity_gets_its_own() {
    let fixture = Fixture::start().await;
    let token = fixture.token("n1");
    let status = request(&fixture, &token, None, WEB).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains(NODE), "{status}");
    let agent = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: weft-node-1, namespace: weft-system}\n\
                 spec: {nodeName: n1, serviceAccountName: weft-node}\nstatus: {podIP: 10.0.0.9}\n";
    fixture.write("cluster.yaml", &format!("{CLUSTER}{agent}"));
    eventually("the agent's pod is known", || async {
        fixture
            .get("/debug/resources")
            .await
            .contains("weft-node-1")
    })
    .await;
    request(&fixture, &token, None, NODE).await.unwrap();
    let status = request(&fixture, &token, None, WEB).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "a CSR for another: {status}"
    );
}

#[tokio::test]
async fn every_other_identity_is_refused() {
    let fixture = Fixture::start().await;
    let token = fixture.token("n1");
    let status = refused(&fixture, &token, DB, "not_on_node").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains(DB) && status.message().contains("n1"),
        "{status}"
    );
    refused(
        &fixture,
        &token,
        "spiffe://other/ns/shop/sa/web",
        "foreign_trust_domain",
    )
    .await;

    let status = request(&fixture, &token, Some(WEB), DB).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains(DB), "{status}");
    let status = request(&fixture, &token, Some("spiffe://nobody"), WEB)
        .await
        .unwrap_err();
    assert!(
        status.message().contains("ImpersonatedIdentity"),
        "{status}"
    );

    // The pod has ended: its identity ends with it.
    fixture.write(
        "cluster.yaml",
        &CLUSTER.replace("podIP: 10.0.0.1", "phase: Failed"),
    );
    eventually("the pod is gone", || async {
        !fixture.get("/debug/resources").await.contains("shop/web")
    })
    .await;
    refused(&fixture, &token, WEB, "not_on_node").await;
}

#[tokio::test]
async fn every_bad_token_is_refused_with_its_reason() {
    let fixture = Fixture::start().await;
    let edited = |path: &str, value: serde_json::Value| {
        let mut claims = Fixture::claims("n1");
        *claims.pointer_mut(path).unwrap() = value;
        fixture.sign(&claims)
    };
    let stranger = KeyPair::generate().unwrap();
    let cases = [
        (String::new(), "no_token"),
        ("a.b.c".into(), "malformed_token"),
        (edited("/exp", in_seconds(-3600).into()), "token_expired"),
        (edited("/aud", "somebody-else".into()), "token_audience"),
        (
            edited("/kubernetes.io/node", serde_json::Value::Null),
            "token_claims",
        ),
        (
            edited("/kubernetes.io/namespace", "shop".into()),
            "not_a_node_account",
        ),
        (
            sign(&stranger, "k1", &Fixture::claims("n1")),
            "token_signature",
        ),
        (sign(&stranger, "k9", &Fixture::claims("n1")), "unknown_key"),
    ];
    for (token, reason) in cases {
        let status = refused(&fixture, &token, WEB, reason).await;
        let code = if reason == "not_a_node_account" {
            Code::PermissionDenied
        } else {
            Code::Unauthenticated
        };
        assert_eq!(status.code(), code, "{reason}");
    }
    let mut early = Fixture::claims("n1");
    early["nbf"] = in_seconds(3600).into();
    refused(&fixture, &fixture.sign(&early), WEB, "token_not_yet_valid").await;
    // Signed with the public key as if it were a shared secret.
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let secret = jsonwebtoken::EncodingKey::from_secret(fixture.key.public_key_raw());
    let token = jsonwebtoken::encode(&header, &Fixture::claims("n1"), &secret).unwrap();
    refused(&fixture, &token, WEB, "token_algorithm").await;
}

#[tokio::test]
async fn new_token_keys_are_read_and_bad_ones_ignored() {
    let fixture = Fixture::start().await;
    let file = fixture.path("jwks.json");
    std::fs::write(&file, "not json at all").unwrap();
    request(&fixture, &fixture.token("n1"), Some(WEB), WEB)
        .await
        .unwrap();
    let next = KeyPair::generate().unwrap();
    let set = jwks(&next, "k2");
    std::fs::write(&file, &set).unwrap();
    // The clock of the file system is coarse; the new file is told by its date or its size.
    std::fs::File::open(&file)
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    let token = sign(&next, "k2", &Fixture::claims("n1"));
    request(&fixture, &token, Some(WEB), WEB).await.unwrap();
    refused(&fixture, &fixture.token("n1"), WEB, "unknown_key").await;
}

#[tokio::test]
async fn lives_are_clipped_to_the_limits() {
    let fixture = Fixture::start_with(&["--cert-ttl=2h", "--min-cert-ttl=10m"]).await;
    let token = fixture.token("n1");
    for (asked, wanted) in [
        (3600, 3600),
        (0, 7200),
        (1_000_000, 7200),
        (60, 600),
        (-5, 7200),
    ] {
        let message = message(Some(WEB), csr(WEB).1, asked);
        let left = left(&send(&fixture, &token, message).await.unwrap());
        assert!((wanted - 100..=wanted).contains(&left), "{asked}: {left} s");
    }
}

#[tokio::test]
async fn only_what_is_on_the_node_now_is_signed() {
    let fixture = Fixture::start().await;
    let (n1, n2) = (fixture.token("n1"), fixture.token("n2"));
    let web = "metadata: {name: web, namespace: shop, labels: {app: web}}";
    // A pod that terminates still serves, and may outlive its certificate.
    let terminating = web.replace("}}", "}, deletionTimestamp: \"2030-01-01T00:00:00Z\"}");
    fixture.change(&CLUSTER.replace(web, &terminating)).await;
    request(&fixture, &n1, Some(WEB), WEB).await.unwrap();
    // Another pod of the same name on another node.
    let moved = CLUSTER.replace("nodeName: n1", "nodeName: n2");
    fixture.change(&moved).await;
    refused(&fixture, &n1, WEB, "not_on_node").await;
    request(&fixture, &n2, Some(WEB), WEB).await.unwrap();
    for phase in ["Succeeded", "Failed"] {
        fixture.change(CLUSTER).await;
        let finished = CLUSTER.replace("podIP: 10.0.0.1", &format!("phase: {phase}"));
        fixture.change(&finished).await;
        refused(&fixture, &n1, WEB, "not_on_node").await;
    }
    // Not scheduled yet, and gone.
    for nowhere in [
        CLUSTER.replace("nodeName: n1, ", ""),
        CLUSTER
            .replace("name: web, n", "name: other, n")
            .replace("serviceAccountName: web", "serviceAccountName: other"),
    ] {
        fixture.change(&nowhere).await;
        refused(&fixture, &n1, WEB, "not_on_node").await;
    }
}

#[tokio::test]
async fn nothing_is_issued_for_an_alias_of_the_trust_domain() {
    let fixture = Fixture::start_with(&["--trust-domain-alias=old.example"]).await;
    let token = fixture.token("n1");
    let alias = "spiffe://old.example/ns/shop/sa/web";
    refused(&fixture, &token, alias, "foreign_trust_domain").await;
    let status = request(&fixture, &token, Some(WEB), alias)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn who_is_refused_again_and_again_is_not_heard_for_a_while() {
    let fixture = Fixture::start().await;
    let mut client = IstioCertificateServiceClient::new(fixture.channel().await);
    let token = fixture.token("n1");
    let (_, db) = csr(DB);
    let mut codes = Vec::new();
    for _ in 0..110 {
        let message = message(Some(DB), db.clone(), 3600);
        let answer = client.create_certificate(with_token(message, &token)).await;
        codes.push(answer.unwrap_err().code());
    }
    let heard = codes
        .iter()
        .take_while(|code| **code == Code::PermissionDenied)
        .count();
    assert!((100..110).contains(&heard), "{heard}");
    assert!(
        codes[heard..]
            .iter()
            .all(|code| *code == Code::ResourceExhausted)
    );
    let status = refused(&fixture, &token, WEB, "rate_limited").await;
    assert!(
        status.message().contains("weft-system/weft-node on n1"),
        "{status}"
    );
    // Another node is another caller, although it has the same address.
    request(&fixture, &fixture.token("n2"), Some(DB), DB)
        .await
        .unwrap();
}
