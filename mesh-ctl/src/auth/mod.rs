//! Who calls, and what a caller may ask for.
//!
//! A [`Caller`] exists only for a token that was verified, and [`Authenticator::node`] returns one
//! only for a trusted node account. A certificate is signed only for an identity that
//! [`authorize`] found on the caller's own node.

mod jwks;
mod token;

pub use jwks::{Jwks, JwksError};

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mesh_common::identity::{SpiffeId, TrustDomain};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::resources::World;
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
            Self::NotOnNode { .. } => "not_on_node",
        }
    }

    /// The caller as far as it is known.
    pub fn caller(&self) -> String {
        match self {
            Self::NoToken => "unknown".into(),
            Self::Token(error) => error.claimed(),
            Self::NotANode(caller)
            | Self::TrustDomain { caller, .. }
            | Self::NotOnNode { caller, .. } => caller.to_string(),
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::NoToken | Refusal::Token(_) => Code::Unauthenticated,
            Refusal::NotANode(_) | Refusal::TrustDomain { .. } | Refusal::NotOnNode { .. } => {
                Code::PermissionDenied
            }
        };
        Self::new(code, refusal.to_string())
    }
}

/// Verifies tokens.
pub struct Authenticator {
    jwks: Jwks,
    audience: String,
    issuer: Option<String>,
    nodes: BTreeSet<Account>,
}

impl Authenticator {
    /// Trusts the keys of `jwks` and, among their tokens, the accounts in `nodes`.
    pub fn new(
        jwks: Jwks,
        audience: String,
        issuer: Option<String>,
        nodes: impl IntoIterator<Item = Account>,
    ) -> Self {
        Self {
            jwks,
            audience,
            issuer,
            nodes: nodes.into_iter().collect(),
        }
    }

    /// The caller of a request, which must be a trusted node account.
    pub fn node(&self, metadata: &MetadataMap) -> Result<Caller, Refusal> {
        let value = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let (scheme, token) = value
            .and_then(|v| v.split_once(' '))
            .ok_or(Refusal::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Refusal::NoToken);
        }
        let issuer = self.issuer.as_deref();
        let caller = token::verify(token.trim(), &self.jwks.current(), &self.audience, issuer)?;
        let account = Account {
            namespace: caller.namespace.clone(),
            name: caller.service_account.clone(),
        };
        if !self.nodes.contains(&account) {
            return Err(Refusal::NotANode(Box::new(caller)));
        }
        Ok(caller)
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
