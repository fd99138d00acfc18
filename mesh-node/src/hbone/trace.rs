//! `traceparent` (W3C Trace Context, section 3.2): one value for both ends' log lines of a connection.

use std::fmt;

/// The header's name.
pub(super) const TRACEPARENT: &str = "traceparent";

/// Version 00: a trace id, a parent id and flags. Bytes, because every open connection holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    parent: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// A fresh one, not sampled: Weft keeps no spans, it only makes the two log lines findable.
    #[must_use]
    pub fn random() -> Self {
        // All-zero ids are invalid.
        let (trace, parent) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Self {
            trace: trace.to_be_bytes(),
            parent: parent.to_be_bytes(),
            flags: 0,
        }
    }

    /// The peer's, if it is a valid one.
    pub(super) fn parse(stated: &str) -> Option<Self> {
        let parts: Vec<&str> = stated.split('-').collect();
        let [version, trace, parent, flags] = parts.as_slice() else {
            return None;
        };
        // Lower case only, so that none is read that would be written otherwise.
        let hex = |part: &str, length: usize| {
            let is_hex = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let fits = part.len() == length && part.bytes().all(is_hex);
            fits.then(|| u128::from_str_radix(part, 16).ok())?
        };
        let (trace, parent, flags) = (hex(trace, 32)?, hex(parent, 16)?, hex(flags, 2)?);
        let valid = *version == "00" && trace != 0 && parent != 0;
        valid.then_some(Self {
            trace: trace.to_be_bytes(),
            parent: u64::try_from(parent).ok()?.to_be_bytes(),
            flags: u8::try_from(flags).ok()?,
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (
            u128::from_be_bytes(self.trace),
            u64::from_be_bytes(self.parent),
        );
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_one_is_read_as_it_was_written_and_is_unique() {
        let (one, two) = (TraceParent::random(), TraceParent::random());
        assert_eq!(TraceParent::parse(&one.to_string()), Some(one));
        assert_ne!(one, two);
    }

    #[test]
    fn what_the_specification_forbids_is_dropped() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = TraceParent::parse(good).map(|parent| parent.to_string());
        assert_eq!(read.as_deref(), Some(good));
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
