//! `traceparent` (W3C Trace Context, section 3.2): one value for both ends' log lines of a connection.

use std::fmt;

/// The header's name.
pub(super) const TRACEPARENT: &str = "traceparent";

/// Version 00, a trace id, a parent id and flags, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// A fresh one, not sampled: Weft keeps no spans, it only makes the two log lines findable.
    #[must_use]
    pub fn random() -> Self {
        // All-zero ids are invalid.
        let (trace, parent) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Self(format!("00-{trace:032x}-{parent:016x}-00"))
    }

    /// The peer's, if it is a valid one.
    pub(super) fn parse(stated: &str) -> Option<Self> {
        let parts: Vec<&str> = stated.split('-').collect();
        let [version, trace, parent, flags] = parts.as_slice() else {
            return None;
        };
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let valid = *version == "00"
            && hex(trace, 32)
            && hex(parent, 16)
            && hex(flags, 2)
            && !zero(trace)
            && !zero(parent);
        valid.then(|| Self(stated.to_owned()))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_one_is_read_as_it_was_written_and_is_unique() {
        let (one, two) = (TraceParent::random(), TraceParent::random());
        assert_eq!(TraceParent::parse(&one.to_string()), Some(one.clone()));
        assert_ne!(one, two);
    }

    #[test]
    fn what_the_specification_forbids_is_dropped() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(TraceParent::parse(good).is_some());
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }
}
