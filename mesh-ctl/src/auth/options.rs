//! The options of authentication.

use std::path::PathBuf;

use clap::Args;
use kube::Client;

use super::{Account, Authenticator, Jwks, JwksError, TokenReviews, Verifier};

/// Who verifies the nodes' tokens.
#[derive(Clone, Debug, Args)]
#[group(id = "tokens", required = true, multiple = false)]
pub struct TokenSource {
    /// Keys that the nodes' tokens are verified with; read again when the file changes.
    #[arg(long, value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,
    /// Have the Kubernetes API server verify the nodes' tokens (TokenReview).
    #[arg(long)]
    pub token_review: bool,
}

/// Which tokens are accepted, and whose.
#[derive(Clone, Debug, Args)]
pub struct AuthOptions {
    /// Who verifies.
    #[command(flatten)]
    pub source: TokenSource,
    /// Audience that a token must be for.
    #[arg(long, value_name = "AUDIENCE", default_value = "istio-ca")]
    pub token_audience: String,
    /// Issuer that a token must be from; any when absent. The API server knows its own.
    #[arg(long, value_name = "ISSUER", conflicts_with = "token_review")]
    pub token_issuer: Option<String>,
    /// Service account of a trusted node agent; may be given more than once.
    #[arg(long, value_name = "NAMESPACE/NAME", required = true)]
    pub node_account: Vec<Account>,
}

impl AuthOptions {
    /// By the API server behind `client` if there is one, or else by the keys of the file.
    pub fn authenticator(&self, client: Option<Client>) -> Result<Authenticator, JwksError> {
        let audience = self.token_audience.clone();
        let verifier = match client {
            Some(client) => Verifier::Reviews(TokenReviews::new(client, audience)),
            None => Verifier::Jwks {
                jwks: Jwks::open(self.source.jwks_file.clone().unwrap_or_default())?,
                audience,
                issuer: self.token_issuer.clone(),
            },
        };
        Ok(Authenticator::new(verifier, self.node_account.clone()))
    }
}
