//! Verifies one service-account token.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::Caller;

/// Clocks of nodes may differ by this many seconds.
const LEEWAY: u64 = 30;

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
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
        }
    }

    /// Who it says it is from, when its signature was good.
    pub fn claimed(&self) -> String {
        match self {
            Self::Expired(who) | Self::NotYet(who) | Self::Issuer(who) => who.clone(),
            Self::Audience { claimed, .. } => claimed.clone(),
            _ => "unknown".into(),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
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
                return caller(verified.claims.kubernetes);
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

fn caller(claims: Option<Kubernetes>) -> Result<Caller, TokenError> {
    let claims = claims.ok_or_else(|| TokenError::Claim("kubernetes.io".into()))?;
    let node = claims.node.filter(|node| !node.name.is_empty());
    let node = node.ok_or_else(|| TokenError::Claim("kubernetes.io/node".into()))?;
    Ok(Caller {
        namespace: claims.namespace,
        service_account: claims.serviceaccount.name,
        node: node.name,
    })
}
