//! How names are written.

use std::net::IpAddr;

use super::{QuestionError, Side};
use crate::suggest;

/// What was written, with what it must be if a prefix says so.
pub(super) struct Name<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) text: &'a str,
}

/// Splits a prefix off; one of `prefixes`, because an IPv6 address has colons too.
pub(super) fn split<'a>(text: &'a str, prefixes: &[&'static str]) -> Name<'a> {
    let text = text.trim();
    match text.split_once(':') {
        Some((prefix, rest)) if prefixes.contains(&prefix) => Name {
            prefix: Some(prefix),
            text: rest,
        },
        _ => Name { prefix: None, text },
    }
}

/// An address, IPv4 where it is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    Some(ip.to_canonical())
}

/// `NAMESPACE/NAME`, neither empty.
pub(super) fn pair(text: &str) -> Option<(&str, &str)> {
    let (namespace, name) = text.split_once('/')?;
    let fits = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    fits.then_some((namespace, name))
}

/// Nothing is called `name`: the error, with the nearest of `candidates`.
pub(super) fn unknown(
    side: Side,
    kinds: &'static str,
    name: &str,
    candidates: impl IntoIterator<Item = String>,
) -> QuestionError {
    let mut candidates: Vec<_> = candidates.into_iter().collect();
    candidates.sort_unstable();
    candidates.dedup();
    let nearest = suggest::nearest(name, candidates.iter().map(String::as_str));
    QuestionError::Unknown {
        side,
        kinds,
        name: name.to_owned(),
        nearest: nearest.map(str::to_owned),
    }
}
