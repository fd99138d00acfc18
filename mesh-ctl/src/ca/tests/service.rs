//! The service before there is anything to decide by.

use std::sync::Arc;
use std::time::SystemTime;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mesh_common::proto::auth::IstioCertificateRequest;
use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateService;
use rcgen::KeyPair;
use serde_json::json;
use tokio::sync::watch;
use tonic::{Code, Request};

use super::HOUR;
use crate::auth::{Authenticator, Jwks, Verifier};
use crate::ca::options::Lifetimes;
use crate::ca::{Authority, CertificateService, Place, Signer};
use crate::metrics::Metrics;
use crate::resources::{Step, World};

/// A node that asks too early is told to come back, not that its pods do not exist.
#[tokio::test]
async fn who_asks_before_the_first_sync_is_told_to_try_again() {
    let key = KeyPair::generate().unwrap();
    let encoding = EncodingKey::from_ec_der(key.serialized_der());
    let jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    std::fs::write(&file, json!({ "keys": [jwk] }).to_string()).unwrap();
    let verifier = Verifier::Jwks {
        jwks: Jwks::open(file).unwrap(),
        audience: "istio-ca".into(),
        issuer: None,
    };
    let now = SystemTime::now();
    let place = Place::Directory("ca".into());
    let signer = Signer::load(&Signer::create(now).unwrap(), &place, now).unwrap();
    let lifetimes = Lifetimes {
        cert_ttl: HOUR,
        min_cert_ttl: HOUR,
    };
    let (worlds, world) = watch::channel(Arc::new(World::default()));
    let nodes = ["weft-system/weft-node".parse().unwrap()];
    let service = CertificateService::new(
        Arc::new(Authority::new(signer)),
        Arc::new(Authenticator::new(verifier, nodes)),
        "cluster.local".parse().unwrap(),
        lifetimes,
        world,
        Metrics::default(),
    );
    let expires = now.duration_since(SystemTime::UNIX_EPOCH).unwrap() + HOUR;
    let claims = json!({
        "aud": "istio-ca", "exp": expires.as_secs(),
        "kubernetes.io": {
            "namespace": "weft-system", "serviceaccount": {"name": "weft-node"},
            "node": {"name": "n1"},
        },
    });
    let token = encode(&Header::new(Algorithm::ES256), &claims, &encoding).unwrap();
    let ask = async || {
        let mut request = Request::new(IstioCertificateRequest::default());
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        service.create_certificate(request).await.unwrap_err()
    };
    // More often than a refusal would be put up with.
    for _ in 0..200 {
        assert_eq!(ask().await.code(), Code::Unavailable);
    }
    let synced = World::default()
        .next(Step::default(), std::time::Instant::now())
        .unwrap();
    worlds.send_replace(Arc::new(synced));
    assert_eq!(ask().await.code(), Code::PermissionDenied);
}
