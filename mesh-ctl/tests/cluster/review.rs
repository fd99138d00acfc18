//! Tokens that the API server verifies.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_ctl::auth::{Authenticator, Caller, Refusal, TokenReviews, Verifier};
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::api::ApiServer;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "/api/v1/namespaces/weft-system/pods/weft-node-x";
const PEER: [u8; 4] = [10, 0, 0, 9];

struct Fixture {
    server: ApiServer,
    authenticator: Authenticator,
    /// What was reviewed.
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Fixture {
    /// An API server that answers every review with this status.
    async fn answering(status: Value) -> Self {
        let server = ApiServer::start().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        server.answer(REVIEWS, move |review| {
            log.lock().unwrap().push(review["spec"].clone());
            let mut answer = review.clone();
            answer["status"] = status.clone();
            Ok(answer)
        });
        let reviews = TokenReviews::new(server.client(), "istio-ca".into());
        let nodes = ["weft-system/weft-node".parse().unwrap()];
        Self {
            authenticator: Authenticator::new(Verifier::Reviews(reviews), nodes),
            server,
            seen,
        }
    }

    async fn ask(&self, token: &str) -> Result<Caller, Refusal> {
        let mut metadata = MetadataMap::new();
        let bearer = format!("Bearer {token}").parse().unwrap();
        metadata.insert("authorization", bearer);
        self.authenticator
            .node(&metadata, Some(IpAddr::from(PEER)))
            .await
    }

    async fn refused(&self, token: &str, reason: &str, code: Code) -> String {
        let refusal = self.ask(token).await.unwrap_err();
        assert_eq!(refusal.reason(), reason, "{refusal}");
        assert_eq!(Status::from(&refusal).code(), code, "{refusal}");
        refusal.caller()
    }

    fn reviews(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn authenticated(extra: &Value) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["istio-ca"],
        "user": {"username": "system:serviceaccount:weft-system:weft-node", "extra": extra},
    })
}

fn on_node() -> Value {
    authenticated(&json!({"authentication.kubernetes.io/node-name": ["n1"]}))
}

fn bound_to_pod() -> Value {
    authenticated(&json!({
        "authentication.kubernetes.io/pod-name": ["weft-node-x"],
        "authentication.kubernetes.io/pod-uid": ["u-1"],
    }))
}

fn pod(uid: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "weft-node-x", "namespace": "weft-system", "uid": uid},
        "spec": {"nodeName": node, "containers": []},
    })
}

fn seconds(offset: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap() + offset
}

fn token_with(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.signature",
        part(&json!({"alg": "RS256"})),
        part(claims)
    )
}

fn claims() -> Value {
    json!({
        "sub": "system:serviceaccount:weft-system:weft-node",
        "aud": ["istio-ca"], "exp": seconds(600),
    })
}

#[tokio::test]
async fn a_token_is_reviewed_once_for_our_audience() {
    let fixture = Fixture::answering(on_node()).await;
    let token = token_with(&claims());
    for _ in 0..3 {
        let caller = fixture.ask(&token).await.unwrap();
        assert_eq!(caller.to_string(), "weft-system/weft-node on n1");
        let left = caller.expires.duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(500));
    }
    let seen = fixture.seen.lock().unwrap().clone();
    assert_eq!(seen, [json!({"token": token, "audiences": ["istio-ca"]})]);
}

#[tokio::test]
async fn a_token_without_a_node_is_on_the_node_of_its_pod() {
    let fixture = Fixture::answering(bound_to_pod()).await;
    fixture.server.create(POD, pod("ignored", "n7"));
    let uid = fixture.server.object(POD).unwrap()["metadata"]["uid"].clone();
    // The API server of the test gives out its own: the review must name that one.
    let status = authenticated(&json!({
        "authentication.kubernetes.io/pod-name": ["weft-node-x"],
        "authentication.kubernetes.io/pod-uid": [uid],
    }));
    let same = Fixture::answering(status).await;
    same.server.create(POD, pod("ignored", "n7"));
    assert_eq!(same.ask(&token_with(&claims())).await.unwrap().node, "n7");

    // A pod of the same name that came after it.
    let token = token_with(&claims());
    fixture
        .refused(&token, "token_pod", Code::Unauthenticated)
        .await;
}

#[tokio::test]
async fn a_token_bound_to_nothing_or_of_a_person_is_refused() {
    let unbound = Fixture::answering(authenticated(&json!({}))).await;
    let token = token_with(&claims());
    unbound
        .refused(&token, "token_claims", Code::Unauthenticated)
        .await;
    let mut person = on_node();
    person["user"]["username"] = "jane".into();
    let person = Fixture::answering(person).await;
    let caller = person
        .refused(&token, "not_a_service_account", Code::Unauthenticated)
        .await;
    assert_eq!(caller, "\"jane\"");
    let mut other = on_node();
    other["user"]["username"] = "system:serviceaccount:shop:web".into();
    let other = Fixture::answering(other).await;
    let caller = other
        .refused(&token, "not_a_node_account", Code::PermissionDenied)
        .await;
    assert_eq!(caller, "shop/web on n1");
}

#[tokio::test]
async fn what_the_api_server_does_not_accept_is_refused_and_remembered() {
    let status = json!({"authenticated": false, "error": "the token was revoked"});
    let fixture = Fixture::answering(status).await;
    let token = token_with(&claims());
    for _ in 0..3 {
        let caller = fixture
            .refused(&token, "token_not_authenticated", Code::Unauthenticated)
            .await;
        assert_eq!(
            caller,
            "unverified \"system:serviceaccount:weft-system:weft-node\""
        );
    }
    assert_eq!(fixture.reviews(), 1);
}

#[tokio::test]
async fn a_review_for_another_audience_is_not_enough() {
    let mut status = on_node();
    status["audiences"] = json!(["https://kubernetes.default.svc"]);
    let fixture = Fixture::answering(status).await;
    let token = token_with(&claims());
    fixture
        .refused(&token, "token_audience", Code::Unauthenticated)
        .await;
    let mut silent = on_node();
    silent.as_object_mut().unwrap().remove("audiences");
    let silent = Fixture::answering(silent).await;
    silent
        .refused(&token, "token_audience", Code::Unauthenticated)
        .await;
}

#[tokio::test]
async fn what_cannot_be_good_is_not_reviewed() {
    let fixture = Fixture::answering(on_node()).await;
    let edited = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        token_with(&claims)
    };
    let cases = [
        ("nonsense".to_owned(), "malformed_token"),
        (edited("exp", seconds(-60).into()), "token_expired"),
        (edited("aud", "somebody-else".into()), "token_audience"),
        (edited("aud", json!([])), "token_audience"),
        (edited("sub", "x".repeat(20_000).into()), "malformed_token"),
    ];
    for (token, reason) in cases {
        fixture.refused(&token, reason, Code::Unauthenticated).await;
    }
    assert_eq!(fixture.reviews(), 0);
}

#[tokio::test]
async fn an_api_server_that_fails_refuses_and_is_asked_again() {
    let fixture = Fixture::answering(on_node()).await;
    let token = token_with(&claims());
    fixture.server.fail_with(Some(500));
    for _ in 0..2 {
        fixture
            .refused(&token, "token_review_failed", Code::Unavailable)
            .await;
    }
    assert!(fixture.server.asked("POST", REVIEWS) >= 2);
    fixture.server.fail_with(None);
    fixture.ask(&token).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_bad_tokens_does_not_reach_the_api_server() {
    let fixture = Fixture::answering(json!({"authenticated": false})).await;
    let mut last = "";
    for i in 0..150 {
        let mut claims = claims();
        claims["jti"] = i.into();
        last = fixture
            .ask(&token_with(&claims))
            .await
            .unwrap_err()
            .reason();
    }
    assert_eq!(last, "rate_limited");
    assert!(
        (100..115).contains(&fixture.reviews()),
        "{}",
        fixture.reviews()
    );
}
