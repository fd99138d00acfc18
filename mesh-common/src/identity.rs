//! SPIFFE identities, checked when they are made.
//!
//! A [`SpiffeId`] always has the form `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`, is at
//! most 2048 bytes long and uses only the characters that the SPIFFE standard allows: no port, user,
//! query or percent-encoding. Two identities are the same if and only if their strings are.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

const SCHEME: &str = "spiffe://";
const MAX_LENGTH: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// A string is no usable SPIFFE ID or trust domain.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpiffeIdError {
    /// The standard's limit is exceeded.
    #[error("it is {0} bytes long; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// Another kind of URI.
    #[error("it does not start with {SCHEME}")]
    Scheme,
    /// The trust domain is empty, too long or has a character that it may not have.
    #[error(
        "trust domain {0:?} is not 1 to {MAX_TRUST_DOMAIN} of a-z, 0-9, '.', '-' and '_' (no port, no user)"
    )]
    TrustDomain(String),
    /// The path names no namespace and service account.
    #[error("its path is not /ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Path,
    /// Namespace or service account is empty or has a character that it may not have.
    #[error("{part} {value:?} is not one or more of a-z, A-Z, 0-9, '.', '-' and '_'")]
    Segment {
        /// Which part.
        part: &'static str,
        /// What it was.
        value: String,
    },
}

/// The name of a trust domain, such as `cluster.local`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if s.is_empty() || s.len() > MAX_TRUST_DOMAIN || !s.bytes().all(allowed) {
            return Err(SpiffeIdError::TrustDomain(
                s.chars().take(MAX_TRUST_DOMAIN).collect(),
            ));
        }
        Ok(Self(s.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The identity of a workload. Cheap to clone; compared and hashed by its string.
#[derive(Clone)]
pub struct SpiffeId(Arc<Parts>);

struct Parts {
    uri: String,
    trust_domain: TrustDomain,
    namespace: Range<usize>,
    service_account: Range<usize>,
}

impl SpiffeId {
    /// Puts an identity together.
    ///
    /// # Errors
    /// [`SpiffeIdError`], naming the part that is no good.
    pub fn new(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        check_segment("namespace", namespace)?;
        check_segment("service account", service_account)?;
        let uri = format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}");
        if uri.len() > MAX_LENGTH {
            return Err(SpiffeIdError::TooLong(uri.len()));
        }
        let namespace_at = SCHEME.len() + trust_domain.as_str().len() + "/ns/".len();
        let account_at = uri.len() - service_account.len();
        Ok(Self(Arc::new(Parts {
            namespace: namespace_at..namespace_at + namespace.len(),
            service_account: account_at..uri.len(),
            trust_domain: trust_domain.clone(),
            uri,
        })))
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.uri
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.uri[self.0.namespace.clone()]
    }

    /// The service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.0.uri[self.0.service_account.clone()]
    }

    /// The form that policies use: `TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.0.uri[SCHEME.len()..]
    }
}

fn check_segment(part: &'static str, value: &str) -> Result<(), SpiffeIdError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if value.is_empty() || matches!(value, "." | "..") || !value.bytes().all(allowed) {
        let value = value.chars().take(MAX_TRUST_DOMAIN).collect();
        return Err(SpiffeIdError::Segment { part, value });
    }
    Ok(())
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() > MAX_LENGTH {
            return Err(SpiffeIdError::TooLong(s.len()));
        }
        let rest = s.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(SpiffeIdError::Path)?;
        let trust_domain = trust_domain.parse()?;
        let mut segments = path.split('/');
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) => {
                Self::new(&trust_domain, namespace, service_account)
            }
            _ => Err(SpiffeIdError::Path),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.0.uri == other.0.uri
    }
}

impl Eq for SpiffeId {}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uri.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.uri.cmp(&other.0.uri)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.uri)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<SpiffeId, SpiffeIdError> {
        s.parse()
    }

    #[test]
    fn parts_are_what_the_string_says() {
        let id = parse("spiffe://cluster.local/ns/shop/sa/web").unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.namespace(), "shop");
        assert_eq!(id.service_account(), "web");
        assert_eq!(id.principal(), "cluster.local/ns/shop/sa/web");
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(id, SpiffeId::new(id.trust_domain(), "shop", "web").unwrap());
    }

    #[test]
    fn namespaces_that_look_like_keywords_are_told_apart() {
        let id = parse("spiffe://td/ns/sa/sa/ns").unwrap();
        assert_eq!((id.namespace(), id.service_account()), ("sa", "ns"));
    }

    #[test]
    fn other_schemes_are_refused() {
        for bad in [
            "",
            "https://td/ns/a/sa/b",
            "spiffe:/td/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
        ] {
            assert_eq!(parse(bad), Err(SpiffeIdError::Scheme), "{bad}");
        }
    }

    #[test]
    fn a_trust_domain_is_only_a_name() {
        for bad in [
            "", "td:8443", "user@td", "TD", "t d", "t%20d", "td?x", "td#x", "tä",
        ] {
            let uri = format!("spiffe://{bad}/ns/a/sa/b");
            assert!(
                matches!(parse(&uri), Err(SpiffeIdError::TrustDomain(_))),
                "{uri}"
            );
        }
        assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
        assert!("a".repeat(256).parse::<TrustDomain>().is_err());
    }

    #[test]
    fn the_path_has_exactly_its_four_segments() {
        for bad in [
            "",
            "/",
            "/ns/a",
            "/ns/a/sa",
            "/sa/b/ns/a",
            "/ns/a/sa/b/",
            "/ns/a/sa/b/c",
            "//ns/a/sa/b",
        ] {
            assert_eq!(
                parse(&format!("spiffe://td{bad}")),
                Err(SpiffeIdError::Path),
                "{bad}"
            );
        }
    }

    #[test]
    fn segments_are_not_empty_and_hold_no_special_characters() {
        for bad in [
            "", ".", "..", "a b", "a%2Fb", "a?b", "a#b", "a:b", "a@b", "ä", "a\0b",
        ] {
            let in_namespace = format!("spiffe://td/ns/{bad}/sa/b");
            let in_account = format!("spiffe://td/ns/a/sa/{bad}");
            for (uri, name) in [(in_namespace, "namespace"), (in_account, "service account")] {
                match parse(&uri) {
                    Err(SpiffeIdError::Segment { part, value }) => {
                        assert_eq!((part, value.as_str()), (name, bad), "{uri}");
                    }
                    other => panic!("{uri}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn length_is_limited_on_both_ways_in() {
        let account = "a".repeat(MAX_LENGTH - "spiffe://td/ns/a/sa/".len());
        let longest = format!("spiffe://td/ns/a/sa/{account}");
        assert!(parse(&longest).is_ok());
        assert_eq!(
            parse(&format!("{longest}a")),
            Err(SpiffeIdError::TooLong(MAX_LENGTH + 1))
        );
        let td = "td".parse().unwrap();
        assert!(SpiffeId::new(&td, "a", &format!("{account}a")).is_err());
    }

    #[test]
    fn json_form_is_the_string() {
        let id = parse("spiffe://td/ns/a/sa/b").unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"spiffe://td/ns/a/sa/b\"");
        assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<SpiffeId>("\"spiffe://td\"").is_err());
    }
}
