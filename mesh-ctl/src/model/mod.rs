//! The cluster as Weft sees it: Kubernetes objects reduced to what the mesh needs, and validated.
//!
//! A value of these types is well formed: addresses, ports, matchers and modes have been parsed, so
//! that [`crate::compile`] cannot fail. Every source (a directory, the Kubernetes API) makes
//! them with the same constructors.

mod authorization;
mod closed;
mod condition;
mod document;
mod endpoint_slice;
mod matchers;
mod objects;
mod peer_authentication;
mod place;
mod pod;
mod service;
mod spec;

pub use authorization::{Action, AuthorizationPolicy, Rule, Term};
pub use endpoint_slice::{Endpoint, EndpointSlice};
pub use objects::{Change, Object, Objects};
pub use peer_authentication::{Mode, PeerAuthentication};
pub(crate) use place::service_account;
pub use place::{Locality, Namespace, Node};
pub use pod::{Owner, Pod};
pub use service::{Distribution, Service, ServicePort, Target};

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use document::Metadata;

/// Labels of an object, or a selector over them.
pub type Labels = BTreeMap<String, String>;

/// Namespace and name: what an object is called within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Empty for kinds without a namespace.
    pub namespace: Arc<str>,
    /// The object's own name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Joins the two halves.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A field of an object holds something that Weft cannot accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {message}")]
pub struct FieldError {
    /// The path of the field, as it is written in YAML.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// What every object carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub name: ObjectName,
    /// The object's labels.
    pub labels: Labels,
    /// Seconds since 1970; absent in most hand-written files.
    pub created: Option<i64>,
}

impl Meta {
    /// For a kind that lives in a namespace; an absent one means `default`.
    pub(crate) fn namespaced(meta: &mut Metadata) -> Result<Self, FieldError> {
        let namespace = meta.namespace.take().unwrap_or_else(|| "default".into());
        if !is_dns_name(&namespace) {
            return Err(not_a_name("metadata.namespace", &namespace));
        }
        Self::build(meta, &namespace)
    }

    /// For a kind of the whole cluster.
    pub(crate) fn cluster_wide(meta: &mut Metadata) -> Result<Self, FieldError> {
        Self::build(meta, "")
    }

    fn build(meta: &mut Metadata, namespace: &str) -> Result<Self, FieldError> {
        let name = meta.name.take().unwrap_or_default();
        if name.is_empty() {
            return Err(FieldError::new(
                "metadata.name",
                "is missing; give the object a name",
            ));
        }
        if !is_dns_name(&name) {
            return Err(not_a_name("metadata.name", &name));
        }
        Ok(Self {
            name: ObjectName::new(namespace, &name),
            labels: meta.labels.take().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0.as_second()),
        })
    }

    /// Orders objects by age, oldest first; those without a date come last, by name.
    pub fn age_order(&self) -> (i64, &ObjectName) {
        (self.created.unwrap_or(i64::MAX), &self.name)
    }
}

/// True when every label of the selector is present with the same value.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn not_a_name(field: &str, value: &str) -> FieldError {
    FieldError::new(
        field,
        format!("{value:?} is not a Kubernetes name; use lower-case letters, digits, '-' and '.'"),
    )
}

fn is_dns_name(name: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    !name.is_empty()
        && name.len() <= 253
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && alphanumeric(name.chars().next())
        && alphanumeric(name.chars().last())
}

pub(crate) fn parse_address(field: &str, value: &str) -> Result<IpAddr, FieldError> {
    value.parse().map_err(|_| {
        FieldError::new(
            field,
            format!("{value:?} is not an IP address; write an IPv4 or IPv6 address"),
        )
    })
}

pub(crate) fn parse_port(field: &str, value: i64) -> Result<u16, FieldError> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(FieldError::new(
            field,
            format!("{value} is not a port; write a number from 1 to 65535"),
        )),
    }
}
