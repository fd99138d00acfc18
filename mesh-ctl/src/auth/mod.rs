//! Who calls, and what a caller may ask for.
//!
//! A [`Caller`] exists only for a token that was verified, and [`Authenticator::node`] returns one
//! only for a trusted node account. A certificate is signed only for an identity that
//! [`authorize`] found on the caller's own node.

mod jwks;
mod limit;
pub mod options;
mod review;
mod token;

pub use jwks::{Jwks, JwksError};
pub use review::TokenReviews;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_common::identity::{SpiffeId, TrustDomain};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::resources::World;
use limit::{Key, Refusals};
use token::TokenError;

/// A verified caller: a service account, on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The node its pod runs on.
    pub node: String,
    /// When the token ends.
    pub expires: SystemTime,
}

impl Caller {
    /// When the token ends, for a timer; one that ends in the distant future is looked at in a year.
    pub fn expires_at(&self) -> Instant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let left = self.expires.duration_since(SystemTime::now());
        Instant::now() + left.unwrap_or_default().min(YEAR)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} on {}",
            self.namespace, self.service_account, self.node
        )
    }
}

/// A namespace and a service account, `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub name: String,
}

impl std::str::FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.into(),
                    name: name.into(),
                })
            }
            _ => Err(format!("{text:?} is not NAMESPACE/SERVICE-ACCOUNT")),
        }
    }
}

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no bearer token.
    #[error("no bearer token; send the metadata `authorization: Bearer TOKEN`")]
    NoToken,
    /// The token is not good.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A good token of an account that is not trusted.
    #[error("{0} is not a trusted node account; add it with --node-account if it should be")]
    NotANode(Box<Caller>),
    /// The identity is not of this mesh.
    #[error("{identity} is of another trust domain than {trust_domain}, asked for by {caller}")]
    TrustDomain {
        /// Who asks.
        caller: Box<Caller>,
        /// For what.
        identity: Box<SpiffeId>,
        /// The mesh's own.
        trust_domain: TrustDomain,
    },
    /// It was refused too often.
    #[error("{caller} was refused too often; try again in {} s", wait.as_secs() + 1)]
    TooMany {
        /// Who asks.
        caller: String,
        /// When it is heard again.
        wait: Duration,
    },
    /// No pod of that identity runs there.
    #[error("no pod of {identity} runs on the node of {caller}")]
    NotOnNode {
        /// Who asks.
        caller: Box<Caller>,
        /// For what.
        identity: Box<SpiffeId>,
    },
}

impl Refusal {
    /// A short name, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Token(error) => error.reason(),
            Self::NotANode(_) => "not_a_node_account",
            Self::TrustDomain { .. } => "foreign_trust_domain",
            Self::TooMany { .. } => "rate_limited",
            Self::NotOnNode { .. } => "not_on_node",
        }
    }

    /// Nothing is wrong with the request, as far as is known.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Token(TokenError::Unreviewed(_)))
    }

    /// The caller as far as it is known.
    pub fn caller(&self) -> String {
        match self {
            Self::NoToken => "unknown".into(),
            Self::Token(error) => error.claimed(),
            Self::TooMany { caller, .. } => caller.clone(),
            Self::NotANode(caller)
            | Self::TrustDomain { caller, .. }
            | Self::NotOnNode { caller, .. } => caller.to_string(),
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::Token(TokenError::Unreviewed(_)) => Code::Unavailable,
            Refusal::NoToken | Refusal::Token(_) => Code::Unauthenticated,
            Refusal::TooMany { .. } => Code::ResourceExhausted,
            Refusal::NotANode(_) | Refusal::TrustDomain { .. } | Refusal::NotOnNode { .. } => {
                Code::PermissionDenied
            }
        };
        Self::new(code, refusal.to_string())
    }
}

/// Who verifies tokens.
pub enum Verifier {
    /// The keys of a file.
    Jwks {
        /// The keys.
        jwks: Jwks,
        /// The audience that a token must be for.
        audience: String,
        /// The issuer that a token must be from; any when absent.
        issuer: Option<String>,
    },
    /// The Kubernetes API server.
    Reviews(TokenReviews),
}

/// Verifies tokens, and remembers who is refused too often.
pub struct Authenticator {
    verifier: Verifier,
    nodes: BTreeSet<Account>,
    refusals: Refusals,
}

impl Authenticator {
    /// Trusts, among the tokens that `verifier` accepts, those of the accounts in `nodes`.
    pub fn new(verifier: Verifier, nodes: impl IntoIterator<Item = Account>) -> Self {
        Self {
            verifier,
            nodes: nodes.into_iter().collect(),
            refusals: Refusals::default(),
        }
    }

    /// The caller of a request from `peer`, which must be a trusted node account.
    pub async fn node(
        &self,
        metadata: &MetadataMap,
        peer: Option<IpAddr>,
    ) -> Result<Caller, Refusal> {
        let known_by = peer.map(|peer| (Key::peer(peer), format!("peer {peer}")));
        let verified = self.verify(metadata, known_by.as_ref()).await;
        let caller = match verified {
            Err(refusal) if refusal.is_unavailable() => return Err(refusal),
            Err(refusal) => {
                if let Some((key, name)) = known_by {
                    self.admitted(&key, &name)?;
                    self.count(key, &name);
                }
                return Err(refusal);
            }
            Ok(caller) => caller,
        };
        let account = Account {
            namespace: caller.namespace.clone(),
            name: caller.service_account.clone(),
        };
        if !self.nodes.contains(&account) {
            self.admit(&caller)?;
            self.refused(&caller);
            return Err(Refusal::NotANode(Box::new(caller)));
        }
        Ok(caller)
    }

    async fn verify(
        &self,
        metadata: &MetadataMap,
        known_by: Option<&(Key, String)>,
    ) -> Result<Caller, Refusal> {
        let value = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let (scheme, token) = value
            .and_then(|v| v.split_once(' '))
            .ok_or(Refusal::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Refusal::NoToken);
        }
        let token = token.trim();
        match &self.verifier {
            Verifier::Jwks {
                jwks,
                audience,
                issuer,
            } => Ok(token::verify(
                token,
                &jwks.current(),
                audience,
                issuer.as_deref(),
            )?),
            Verifier::Reviews(reviews) => {
                // Each review costs the API server: a peer that only sends bad tokens gets none.
                if let Some((key, name)) = known_by
                    && reviews.remembered(token).is_none()
                {
                    self.admitted(key, name)?;
                }
                Ok(reviews.verify(token).await?)
            }
        }
    }

    /// Whether a caller is heard, or was refused too often.
    pub fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        let name = caller.to_string();
        self.admitted(&Key::Caller(name.clone()), &name)
    }

    /// Counts a refusal against a caller.
    pub fn refused(&self, caller: &Caller) {
        let name = caller.to_string();
        self.count(Key::Caller(name.clone()), &name);
    }

    fn admitted(&self, key: &Key, name: &str) -> Result<(), Refusal> {
        match self.refusals.blocked(key, Instant::now()) {
            Some(wait) => Err(Refusal::TooMany {
                caller: name.to_owned(),
                wait,
            }),
            None => Ok(()),
        }
    }

    fn count(&self, key: Key, name: &str) {
        if self.refusals.refuse(key, Instant::now()) {
            tracing::warn!(
                target: "audit", caller = name, outcome = "blocked",
                "refused too often; its requests are turned away for {:?}", limit::BLOCKED
            );
        }
    }
}

/// Whether the caller may hold that identity: a pod of it runs on the caller's node.
pub fn authorize(
    caller: &Caller,
    identity: &SpiffeId,
    trust_domain: &TrustDomain,
    world: &Arc<World>,
) -> Result<(), Refusal> {
    if identity.trust_domain() != trust_domain {
        return Err(Refusal::TrustDomain {
            caller: Box::new(caller.clone()),
            identity: Box::new(identity.clone()),
            trust_domain: trust_domain.clone(),
        });
    }
    if !world.identities().runs(
        &caller.node,
        identity.namespace(),
        identity.service_account(),
    ) {
        return Err(Refusal::NotOnNode {
            caller: Box::new(caller.clone()),
            identity: Box::new(identity.clone()),
        });
    }
    Ok(())
}
