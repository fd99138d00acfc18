//! The values of a policy's lists, parsed into the matchers that nodes evaluate.

use std::net::IpAddr;

use mesh_common::identity::SpiffeId;
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{Address, ServiceAccountMatch, StringMatch};

use super::FieldError;

/// Parses every value of a list; the error names the entry.
pub(crate) fn list<T>(
    field: &str,
    values: &[String],
    parse: impl Fn(&str, &str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let entry = |(i, value): (usize, &String)| {
        let field = format!("{field}[{i}]");
        if value.is_empty() {
            return Err(FieldError::new(
                field,
                "is empty; write a value or remove the entry",
            ));
        }
        parse(&field, value)
    };
    values.iter().enumerate().map(entry).collect()
}

/// `*` (any value), `prefix*`, `*suffix` or an exact value.
pub(crate) fn string(field: &str, value: &str) -> Result<StringMatch, FieldError> {
    let kind = if value == "*" {
        MatchType::Presence(())
    } else if let Some(suffix) = value.strip_prefix('*') {
        MatchType::Suffix(suffix.to_owned())
    } else if let Some(prefix) = value.strip_suffix('*') {
        MatchType::Prefix(prefix.to_owned())
    } else {
        MatchType::Exact(value.to_owned())
    };
    let literal = match &kind {
        MatchType::Exact(text) | MatchType::Prefix(text) | MatchType::Suffix(text) => text.as_str(),
        MatchType::Presence(()) => "",
    };
    if literal.contains('*') {
        return Err(FieldError::new(
            field,
            format!("{value:?} has a '*' inside; only *, prefix* and *suffix are matched"),
        ));
    }
    Ok(StringMatch {
        match_type: Some(kind),
    })
}

/// A SPIFFE identity without its scheme: `cluster.local/ns/NAMESPACE/sa/ACCOUNT`, or a pattern.
pub(crate) fn principal(field: &str, value: &str) -> Result<StringMatch, FieldError> {
    if value.starts_with("spiffe:") {
        return Err(FieldError::new(
            field,
            format!("{value:?} has a scheme; write the principal without spiffe://"),
        ));
    }
    let parsed = string(field, value)?;
    let exact = matches!(parsed.match_type, Some(MatchType::Exact(_)));
    if exact && format!("spiffe://{value}").parse::<SpiffeId>().is_err() {
        return Err(FieldError::new(
            field,
            format!(
                "{value:?} is not a principal; write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, \
                 prefix*, *suffix or *"
            ),
        ));
    }
    Ok(parsed)
}

/// `account` (of the policy's namespace) or `namespace/account`.
pub(crate) fn service_account(
    own_namespace: &str,
) -> impl Fn(&str, &str) -> Result<ServiceAccountMatch, FieldError> {
    move |field, value| {
        let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
        let bad = |part: &str| part.is_empty() || part.contains(['/', '*']);
        if bad(namespace) || bad(account) {
            return Err(FieldError::new(
                field,
                format!("{value:?} is not a service account; write ACCOUNT or NAMESPACE/ACCOUNT"),
            ));
        }
        Ok(ServiceAccountMatch {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
        })
    }
}

/// An address or a CIDR block.
pub(crate) fn block(field: &str, value: &str) -> Result<Address, FieldError> {
    let (address, length) = match value.parse::<IpAddr>() {
        Ok(address) => (address, if address.is_ipv4() { 32 } else { 128 }),
        Err(_) => match value.parse::<ipnet::IpNet>() {
            Ok(block) => (block.network(), block.prefix_len()),
            Err(_) => {
                return Err(FieldError::new(
                    field,
                    format!("{value:?} is not an address or CIDR block; write one like 10.0.0.0/8"),
                ));
            }
        },
    };
    let bytes = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    Ok(Address {
        address: bytes,
        length: length.into(),
    })
}

/// A port, which these lists write as a string.
pub(crate) fn port(field: &str, value: &str) -> Result<u32, FieldError> {
    match value.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port.into()),
        _ => Err(FieldError::new(
            field,
            format!("{value:?} is not a port; write a number from 1 to 65535 in quotes"),
        )),
    }
}
