//! How the agent reaches the controller: TLS against a given CA, a bearer token with each request.
//!
//! Both files are read anew when they are needed (the CA for each connection, the token for each
//! request), so they can be rotated under a running agent.

use http::Uri;
use mesh_common::identity::TrustDomain;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

/// Also bounds the TLS handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Where the controller is, and as whom the agent comes.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// Name of this node.
    pub node_name: String,
    /// Cluster of this node.
    pub cluster_id: String,
    /// Trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// `https://HOST:PORT`.
    pub controller: String,
    /// PEM file with the roots for the controller's certificate.
    pub controller_ca: PathBuf,
    /// File with the bearer token.
    pub token_file: PathBuf,
}

/// The controller cannot be used; says what to look at.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ControllerError {
    /// The URL is unusable.
    #[error("controller URL {0:?}: {1}; it must be https://HOST:PORT")]
    Url(String, String),
    /// The CA file is unusable.
    #[error("controller CA file {path}: {1}", path = .0.display())]
    CaFile(PathBuf, String),
    /// The token file is unusable.
    #[error("token file {path}: {1}", path = .0.display())]
    TokenFile(PathBuf, String),
    /// No connection.
    #[error("cannot connect to the controller at {0}: {1}")]
    Connect(String, String),
    /// The controller does not accept the token.
    #[error("the controller at {0} refuses the token in {path}: {2}", path = .1.display())]
    Token(String, PathBuf, String),
    /// The controller answered with another error.
    #[error("the controller at {0} answered {1:?}: {2}")]
    Answer(String, Code, String),
    /// The controller ended the stream.
    #[error("the controller at {0} closed the stream")]
    Closed(String),
    /// Nothing may be started here.
    #[error("there is no tokio runtime to start on")]
    NoRuntime,
}

/// Makes connections and requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    options: Arc<StateOptions>,
    uri: Uri,
}

impl Controller {
    pub(super) fn new(options: StateOptions) -> Result<Self, ControllerError> {
        let bad = |why: String| ControllerError::Url(options.controller.clone(), why);
        let uri: Uri = options
            .controller
            .parse()
            .map_err(|e| bad(format!("{e}")))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(bad("it has no https scheme or no host".into()));
        }
        Ok(Self {
            options: Arc::new(options),
            uri,
        })
    }

    pub(super) fn options(&self) -> &StateOptions {
        &self.options
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A new connection, checked against the CA file as it is now.
    pub(super) async fn connect(&self) -> Result<Channel, ControllerError> {
        let path = &self.options.controller_ca;
        let pem = read(path)
            .await
            .map_err(|why| ControllerError::CaFile(path.clone(), why))?;
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(ControllerError::CaFile(
                path.clone(),
                "it holds no PEM certificate".into(),
            ));
        }
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        let endpoint = Endpoint::from(self.uri.clone())
            .tls_config(tls)
            .map_err(|e| ControllerError::CaFile(path.clone(), chain(&e)))?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true);
        let failed = |why| ControllerError::Connect(self.uri.to_string(), why);
        match tokio::time::timeout(CONNECT_WITHIN * 2, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|e| failed(chain(&e))),
            Err(_) => Err(failed("it does not answer".into())),
        }
    }

    /// A request that carries the token as it is in the file now.
    pub(super) async fn request<T>(&self, message: T) -> Result<Request<T>, ControllerError> {
        let mut request = Request::new(message);
        let token = self.token().await?;
        let unusable =
            |why: &str| ControllerError::TokenFile(self.options.token_file.clone(), why.to_owned());
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| unusable("it holds characters that no token has"))?;
        bearer.set_sensitive(true);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", bearer);
        if let Ok(cluster) = self.options.cluster_id.parse() {
            metadata.insert("clusterid", cluster);
        }
        Ok(request)
    }

    /// The token as it is in the file now.
    pub(super) async fn token(&self) -> Result<String, ControllerError> {
        let path = &self.options.token_file;
        let text = read(path)
            .await
            .map_err(|why| ControllerError::TokenFile(path.clone(), why))?;
        match text.trim() {
            "" => Err(ControllerError::TokenFile(
                path.clone(),
                "it is empty".into(),
            )),
            token => Ok(token.to_owned()),
        }
    }

    /// What a failed call means.
    pub(super) fn failed(&self, status: &Status) -> ControllerError {
        let uri = self.uri.to_string();
        let mut why = status.message().to_owned();
        if let Some(source) = status.source() {
            why = format!("{why}: {}", chain(source));
        }
        match status.code() {
            Code::Unauthenticated => {
                ControllerError::Token(uri, self.options.token_file.clone(), why)
            }
            code => ControllerError::Answer(uri, code, why),
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|e| e.to_string())
}

/// An error and its causes in one line, without repetitions.
fn chain(error: &dyn Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.iter().all(|part| !part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}
