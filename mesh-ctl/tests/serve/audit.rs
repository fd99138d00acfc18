//! Refusals that matter: each has its status, is counted by its reason, and is a log line that names the
//! caller.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;

use crate::certificates::{WEB, csr, message, send};
use crate::fixture::{Fixture, in_seconds};

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

/// The audit lines about a caller, which no other test has.
fn lines(caller: &str) -> Vec<Value> {
    let bytes = log().0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["target"] == "audit" && line["fields"]["caller"] == caller)
        .map(|line| line["fields"].clone())
        .collect()
}

struct Refused<'a> {
    token: &'a str,
    identity: &'a str,
    csr: String,
    code: Code,
    reason: &'a str,
    caller: &'a str,
}

impl Refused<'_> {
    async fn check(self, fixture: &Fixture) {
        let reason = self.reason;
        let metric = format!(
            "weft_controller_certificates_total{{outcome=\"refused\",reason=\"{reason}\"}}"
        );
        assert_eq!(fixture.metric(&metric).await, 0.0);
        let message = message(Some(self.identity), self.csr, 3600);
        let status = send(fixture, self.token, message).await.unwrap_err();
        assert_eq!(status.code(), self.code, "{status}");
        assert_eq!(fixture.metric(&metric).await, 1.0, "{status}");
        let lines = lines(self.caller);
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(line["outcome"], "refused");
        assert_eq!(line["reason"], reason);
        assert_eq!(line["identity"], self.identity);
        assert_eq!(line["peer"], "127.0.0.1");
    }
}

async fn fixture() -> Fixture {
    log();
    Fixture::start().await
}

/// A fixture in which the node of that name runs `web`.
async fn with_web_on(node: &str) -> Fixture {
    let fixture = fixture().await;
    let moved = crate::fixture::CLUSTER.replace("nodeName: n1", &format!("nodeName: {node}"));
    fixture.change(&moved).await;
    fixture
}

#[tokio::test]
async fn an_identity_that_does_not_run_on_the_node() {
    let fixture = fixture().await;
    let refused = Refused {
        token: &fixture.token("elsewhere"),
        identity: WEB,
        csr: csr(WEB).1,
        code: Code::PermissionDenied,
        reason: "not_on_node",
        caller: "weft-system/weft-node on elsewhere",
    };
    refused.check(&fixture).await;
}

/// A token of a caller that no other test has.
fn token(fixture: &Fixture, caller: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut claims = Fixture::claims("n1");
    claims["sub"] = caller.into();
    edit(&mut claims);
    fixture.sign(&claims)
}

#[tokio::test]
async fn an_expired_token() {
    let fixture = fixture().await;
    let caller = "system:serviceaccount:weft-system:expired";
    let refused = Refused {
        token: &token(&fixture, caller, |claims| {
            claims["exp"] = in_seconds(-60).into();
        }),
        identity: WEB,
        csr: csr(WEB).1,
        code: Code::Unauthenticated,
        reason: "token_expired",
        caller,
    };
    refused.check(&fixture).await;
}

#[tokio::test]
async fn a_wrong_audience() {
    let fixture = fixture().await;
    let caller = "system:serviceaccount:weft-system:for-another-audience";
    let refused = Refused {
        token: &token(&fixture, caller, |claims| {
            claims["aud"] = "https://kubernetes.default.svc".into();
        }),
        identity: WEB,
        csr: csr(WEB).1,
        code: Code::Unauthenticated,
        reason: "token_audience",
        caller,
    };
    refused.check(&fixture).await;
}

#[tokio::test]
async fn a_request_that_names_somebody_else() {
    let fixture = with_web_on("n-foreign").await;
    let refused = Refused {
        token: &fixture.token("n-foreign"),
        identity: WEB,
        csr: csr("spiffe://cluster.local/ns/shop/sa/admin").1,
        code: Code::InvalidArgument,
        reason: "csr_foreign_name",
        caller: "weft-system/weft-node on n-foreign",
    };
    refused.check(&fixture).await;
}

/// An RSA key of 512 bits, properly signed.
const RSA_512: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHFMHECAQAwDDEKMAgGA1UEAwwBeDBcMA0GCSqGSIb3DQEBAQUAA0sAMEgCQQDH
3jeO8d39s5nm3PrP2CUMr3IWNhw2JhuzsZIkGkE3xGwMHiBFJrCkdsbrmEqAkAUh
WY47TXKUXzQacC/k+hYjAgMBAAGgADANBgkqhkiG9w0BAQsFAANBALhzmggwEH4R
bGR/RoOLSnIDAagrDKq1m811ygFWwsf2fjz/ZF9NyOaRRLSiKi3VZk4CVGj01iV9
cHbWoiiPwoE=
-----END CERTIFICATE REQUEST-----
";

#[tokio::test]
async fn an_rsa_512_key() {
    let fixture = with_web_on("n-rsa").await;
    let refused = Refused {
        token: &fixture.token("n-rsa"),
        identity: WEB,
        csr: RSA_512.into(),
        code: Code::InvalidArgument,
        reason: "csr_key",
        caller: "weft-system/weft-node on n-rsa",
    };
    refused.check(&fixture).await;
}

#[tokio::test]
async fn every_certificate_is_a_line() {
    let fixture = with_web_on("n-audit").await;
    let token = fixture.token("n-audit");
    let answer = send(&fixture, &token, message(Some(WEB), csr(WEB).1, 3600)).await;
    let answer = answer.unwrap();
    let lines = lines("weft-system/weft-node on n-audit");
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(line["outcome"], "issued");
    assert_eq!(line["identity"], WEB);
    assert_eq!(line["node"], "n-audit");
    let leaf = crate::certificates::leaf(&answer);
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(line["serial"], leaf.raw_serial_as_string());
    let until = humantime::parse_rfc3339(line["not_after"].as_str().unwrap()).unwrap();
    let until = until
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(
        i64::try_from(until.as_secs()).unwrap(),
        leaf.validity().not_after.timestamp()
    );
}

#[tokio::test]
async fn silence_is_announced_once() {
    let fixture = fixture().await;
    let token = fixture.token("n-flood");
    for _ in 0..150 {
        let message = message(Some(WEB), "no request".into(), 3600);
        send(&fixture, &token, message).await.unwrap_err();
    }
    let lines = lines("weft-system/weft-node on n-flood");
    let blocked = lines.iter().filter(|line| line["outcome"] == "blocked");
    assert_eq!(blocked.count(), 1);
    let logged = lines.len() - 1;
    assert!(
        (100..150).contains(&logged),
        "the rest is not logged: {logged}"
    );
}
