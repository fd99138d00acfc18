//! Verifies one service-account token by the keys of a JWKS document.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

use super::Caller;

/// Clocks of nodes may differ by this many seconds.
const LEEWAY: u64 = 30;

/// Why a token is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT.
    #[error("the token is not a JWT")]
    Malformed,
    /// Signed in a way that is not accepted.
    #[error("the token is signed with {0:?}; accepted are ES256, ES384 and RS256")]
    Algorithm(Algorithm),
    /// None of the keys fits.
    #[error("no key of the JWKS file verifies the token (key id {0:?})")]
    UnknownKey(Option<String>),
    /// Signed by somebody else.
    #[error("the token's signature is wrong")]
    Signature,
    /// Too late.
    #[error("the token of {0} has expired")]
    Expired(String),
    /// Too early.
    #[error("the token of {0} is not valid yet; check the clocks")]
    NotYet(String),
    /// For somebody else.
    #[error("the token of {claimed} is not for audience {wanted:?}")]
    Audience {
        /// Whose token it says it is.
        claimed: String,
        /// The audience asked for.
        wanted: String,
    },
    /// From somebody else.
    #[error("the token of {0} is from another issuer than --token-issuer")]
    Issuer(String),
    /// A claim is missing or malformed.
    #[error("the token has no usable claim {0}")]
    Claim(String),
    /// The API server does not accept it.
    #[error("the API server does not accept the token of {claimed}: {reason}")]
    NotAuthenticated {
        /// Whose token it says it is.
        claimed: String,
        /// What the API server said.
        reason: String,
    },
    /// The token of a person.
    #[error("the token of {0:?} is not one of a service account")]
    NotAnAccount(String),
    /// The pod that it is bound to is not there, or on no node.
    #[error("the token is bound to pod {0}, which does not run on a node")]
    NoPod(String),
    /// The API server could not be asked.
    #[error("the API server cannot review the token: {0}; try again")]
    Unreviewed(String),
}

impl TokenError {
    /// A short name, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed_token",
            Self::Algorithm(_) => "token_algorithm",
            Self::UnknownKey(_) => "unknown_key",
            Self::Signature => "token_signature",
            Self::Expired(_) => "token_expired",
            Self::NotYet(_) => "token_not_yet_valid",
            Self::Audience { .. } => "token_audience",
            Self::Issuer(_) => "token_issuer",
            Self::Claim(_) => "token_claims",
            Self::NotAuthenticated { .. } => "token_not_authenticated",
            Self::NotAnAccount(_) => "not_a_service_account",
            Self::NoPod(_) => "token_pod",
            Self::Unreviewed(_) => "token_review_failed",
        }
    }

    /// Who it says it is from. Without the word `unverified`, its signature was good.
    pub fn claimed(&self) -> String {
        match self {
            Self::Expired(who) | Self::NotYet(who) | Self::Issuer(who) | Self::NoPod(who) => {
                who.clone()
            }
            Self::NotAnAccount(who) => format!("{who:?}"),
            Self::Audience { claimed, .. } | Self::NotAuthenticated { claimed, .. } => {
                claimed.clone()
            }
            _ => "unknown".into(),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    exp: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

pub(super) fn verify(
    token: &str,
    keys: &JwkSet,
    audience: &str,
    issuer: Option<&str>,
) -> Result<Caller, TokenError> {
    let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
    if !matches!(
        header.alg,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::RS256
    ) {
        return Err(TokenError::Algorithm(header.alg));
    }
    let fits = |key: &&Jwk| {
        let unnamed = header.kid.is_none() || key.common.key_id.is_none();
        let named = unnamed || key.common.key_id == header.kid;
        named && suits(key, header.alg)
    };
    let mut refusal = TokenError::UnknownKey(header.kid.clone());
    for key in keys.keys.iter().filter(fits) {
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        // The signature first: what an unsigned token says is not worth repeating.
        match decode::<Claims>(token, &key, &signature_only(header.alg)) {
            Ok(verified) => {
                let who = verified.claims.sub;
                decode::<Claims>(token, &key, &validation(header.alg, audience, issuer))
                    .map_err(|e| explain(e.into_kind(), who, audience))?;
                return caller(verified.claims.kubernetes, verified.claims.exp);
            }
            Err(e) => match e.into_kind() {
                ErrorKind::InvalidSignature => refusal = TokenError::Signature,
                ErrorKind::Json(e) => return Err(TokenError::Claim(e.to_string())),
                _ => return Err(TokenError::Malformed),
            },
        }
    }
    Err(refusal)
}

/// An ES256 key is on P-256, and so on: the token does not choose.
fn suits(key: &Jwk, algorithm: Algorithm) -> bool {
    match &key.algorithm {
        AlgorithmParameters::RSA(_) => algorithm == Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => algorithm == Algorithm::ES256,
            EllipticCurve::P384 => algorithm == Algorithm::ES384,
            _ => false,
        },
        _ => false,
    }
}

fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

fn validation(algorithm: Algorithm, audience: &str, issuer: Option<&str>) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "aud"]);
    if let Some(issuer) = issuer {
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    }
    validation
}

fn explain(kind: ErrorKind, who: String, audience: &str) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired(who),
        ErrorKind::ImmatureSignature => TokenError::NotYet(who),
        ErrorKind::InvalidAudience => TokenError::Audience {
            claimed: who,
            wanted: audience.to_owned(),
        },
        ErrorKind::InvalidIssuer => TokenError::Issuer(who),
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            TokenError::Claim(claim)
        }
        _ => TokenError::Malformed,
    }
}

fn caller(claims: Option<Kubernetes>, expires: Option<u64>) -> Result<Caller, TokenError> {
    let expires = expires.and_then(at);
    let expires = expires.ok_or_else(|| TokenError::Claim("exp".into()))?;
    let claims = claims.ok_or_else(|| TokenError::Claim("kubernetes.io".into()))?;
    let node = claims.node.filter(|node| !node.name.is_empty());
    let node = node.ok_or_else(|| TokenError::Claim("kubernetes.io/node".into()))?;
    Ok(Caller {
        namespace: claims.namespace,
        service_account: claims.serviceaccount.name,
        node: node.name,
        expires,
    })
}

fn at(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// What a token says whose signature nobody has looked at: good for refusing it, and for log lines that
/// say so.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Unverified {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Unverified {
    pub(super) fn read(token: &str) -> Option<Self> {
        use base64::Engine as _;
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .ok()?;
        serde_json::from_slice(&payload).ok()
    }

    pub(super) fn claimed(&self) -> String {
        let short: String = self.sub.chars().take(128).collect();
        format!("unverified {short:?}")
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.exp.and_then(at)
    }

    /// Refuses what no verification could accept.
    pub(super) fn refusal(&self, audience: &str) -> Result<(), TokenError> {
        let limit = SystemTime::now() - Duration::from_secs(LEEWAY);
        if self.expires().is_some_and(|expires| expires < limit) {
            return Err(TokenError::Expired(self.claimed()));
        }
        let matches = match &self.aud {
            Audiences::One(one) => one == audience,
            Audiences::Several(all) => all.iter().any(|one| one == audience),
        };
        if matches {
            return Ok(());
        }
        Err(TokenError::Audience {
            claimed: self.claimed(),
            wanted: audience.to_owned(),
        })
    }
}
