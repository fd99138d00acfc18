//! A controller on loopback with a directory, a CA and token keys of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use clap::Parser;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mesh_ctl::config::Config;
use mesh_ctl::controller::Controller;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

/// Nothing in these tests takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, serviceAccountName: db}
status: {podIP: 10.0.0.2}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all, namespace: shop}
spec: {}
";

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) controller: Option<Controller>,
    pub(crate) key: KeyPair,
    config: Config,
}

pub(crate) fn jwks(key: &KeyPair, id: &str) -> String {
    let encoding = EncodingKey::from_ec_der(key.serialized_der());
    let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(id.into());
    json!({ "keys": [jwk] }).to_string()
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more options.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir(at("config")).unwrap();
        std::fs::write(at("config/cluster.yaml"), CLUSTER).unwrap();
        let key = KeyPair::generate().unwrap();
        std::fs::write(at("jwks.json"), jwks(&key, "k1")).unwrap();
        let mut arguments = vec![
            "mesh-controller".to_owned(),
            format!("--config-dir={}", at("config")),
            format!("--ca-dir={}", at("ca")),
            format!("--jwks-file={}", at("jwks.json")),
            "--listen=127.0.0.1:0".into(),
            "--admin-addr=127.0.0.1:0".into(),
            "--node-account=weft-system/weft-node".into(),
            "--server-name=controller.test".into(),
            "--server-name=127.0.0.1".into(),
        ];
        arguments.extend(options.iter().map(ToString::to_string));
        let config = Config::parse_from(arguments);
        let controller = Controller::start(config.clone()).await.unwrap();
        Self {
            directory,
            controller: Some(controller),
            key,
            config,
        }
    }

    /// Another controller over the same files.
    pub(crate) async fn restart(&mut self) {
        self.controller.take().unwrap().shutdown().await;
        self.controller = Some(Controller::start(self.config.clone()).await.unwrap());
    }

    /// Another controller beside it, over the same files; the fixture's clients go to it from now on.
    pub(crate) async fn fail_over(&mut self) -> Controller {
        let other = Controller::start(self.config.clone()).await.unwrap();
        self.controller.replace(other).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a file of the configuration at once, as careful writers do.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let draft = self.path("draft");
        std::fs::write(&draft, content).unwrap();
        std::fs::rename(draft, self.path("config").join(name)).unwrap();
    }

    /// Puts `cluster` in place, and returns when the controller has it.
    pub(crate) async fn change(&self, cluster: &str) {
        static MARKS: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("mark-{}-end", MARKS.fetch_add(1, Ordering::Relaxed));
        let pod = format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {mark}, namespace: shop}}\n\
             spec: {{nodeName: nowhere}}\nstatus: {{podIP: 10.9.9.9}}\n"
        );
        self.write("cluster.yaml", &format!("{cluster}{pod}"));
        eventually("the change is read", || async {
            self.get("/debug/resources").await.contains(&mark)
        })
        .await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.controller.as_ref().unwrap().address
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.try_channel().await.unwrap()
    }

    /// Trusts the roots that are in the directory now.
    pub(crate) async fn try_channel(&self) -> Result<Channel, tonic::transport::Error> {
        let root = std::fs::read_to_string(self.path("ca/root-cert.pem")).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(root))
            .domain_name("controller.test");
        let endpoint = Channel::from_shared(format!("https://{}", self.address())).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    /// The claims of a good token for a node.
    pub(crate) fn claims(node: &str) -> Value {
        json!({
            "iss": "test",
            "sub": "system:serviceaccount:weft-system:weft-node",
            "aud": ["istio-ca"],
            "iat": in_seconds(0),
            "exp": in_seconds(600),
            "kubernetes.io": {
                "namespace": "weft-system",
                "serviceaccount": {"name": "weft-node"},
                "pod": {"name": "weft-node-x"},
                "node": {"name": node},
            },
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        sign(&self.key, "k1", claims)
    }

    pub(crate) fn token(&self, node: &str) -> String {
        self.sign(&Self::claims(node))
    }

    /// A metric's value; zero when it was never counted.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let address = self.controller.as_ref().unwrap().admin_address;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

pub(crate) fn sign(key: &KeyPair, id: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(id.into());
    encode(
        &header,
        claims,
        &EncodingKey::from_ec_der(key.serialized_der()),
    )
    .unwrap()
}

pub(crate) fn in_seconds(offset: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap() + offset
}

pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// Asks again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !ask().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
