//! What all decoders of wire messages share: the error, which always names object and field, and the
//! small conversions.

use ipnet::IpNet;
use std::fmt::Display;
use std::net::IpAddr;
use thiserror::Error;

/// A resource from the controller cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{object}: field {field}: {why}")]
pub struct DecodeError {
    /// Kind and name of the resource, such as `workload Kubernetes//Pod/shop/web`.
    pub object: String,
    /// The field, as the protocol spells it, with indices.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl DecodeError {
    /// Something is wrong with `field` of `object`.
    pub fn new(object: impl Display, field: impl Display, why: impl Display) -> Self {
        Self {
            object: object.to_string(),
            field: field.to_string(),
            why: why.to_string(),
        }
    }
}

/// A field's complaint, before the object is known.
#[derive(Debug)]
pub(crate) struct FieldError {
    field: String,
    why: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Display, why: impl Display) -> Self {
        Self {
            field: field.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn of(self, object: impl Display) -> DecodeError {
        DecodeError::new(object, self.field, self.why)
    }

    /// The same complaint about a field that is inside `outer`.
    pub(crate) fn inside(self, outer: impl Display) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            why: self.why,
        }
    }
}

/// An address of 4 or 16 bytes; an IPv4-mapped one is IPv4.
pub(crate) fn ip(bytes: &[u8], field: impl Display) -> Result<IpAddr, FieldError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::from(v6).to_canonical()),
        Err(_) => Err(FieldError::new(
            field,
            format!(
                "{} bytes are no IP address; 4 or 16 are expected",
                bytes.len()
            ),
        )),
    }
}

/// A block of addresses; one inside `::ffff:0:0/96` is an IPv4 block.
pub(crate) fn ip_block(
    bytes: &[u8],
    length: u32,
    field: impl Display,
) -> Result<IpNet, FieldError> {
    let address = ip(bytes, &field)?;
    let bits = 8 * bytes.len() as u32;
    // A mapped block that is wider than all of IPv4 stays an IPv6 block.
    let (address, usable) = match address {
        IpAddr::V4(_) if bytes.len() == 16 && length < 96 => {
            let whole = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
            (whole.unwrap_or(address), length)
        }
        IpAddr::V4(_) if bytes.len() == 16 => (address, length - 96),
        _ => (address, length),
    };
    u8::try_from(usable)
        .ok()
        .filter(|_| length <= bits)
        .and_then(|prefix| IpNet::new(address, prefix).ok())
        .map(|net| net.trunc())
        .ok_or_else(|| {
            FieldError::new(
                field,
                format!("prefix length {length}; at most {bits} is possible"),
            )
        })
}

pub(crate) fn port(value: u32, field: impl Display) -> Result<u16, FieldError> {
    u16::try_from(value).map_err(|_| {
        FieldError::new(
            field,
            format!("{value} is no port; at most 65535 is possible"),
        )
    })
}

pub(crate) fn not_empty<'a>(value: &'a str, field: &'static str) -> Result<&'a str, FieldError> {
    if value.is_empty() {
        Err(FieldError::new(field, "it is empty"))
    } else {
        Ok(value)
    }
}

/// A value of an enumeration of which a new member must not be mistaken for an old one.
pub(crate) fn known<E: TryFrom<i32>>(value: i32, field: &'static str) -> Result<E, FieldError> {
    E::try_from(value).map_err(|_| {
        FieldError::new(
            field,
            format!("value {value} is unknown; the controller may be newer than this program"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_four_or_sixteen_bytes() {
        assert_eq!(
            ip(&[10, 0, 0, 1], "f").unwrap(),
            "10.0.0.1".parse::<IpAddr>().unwrap()
        );
        let mapped: std::net::Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(
            ip(&mapped.octets(), "f").unwrap(),
            "10.0.0.1".parse::<IpAddr>().unwrap()
        );
        for length in [0, 3, 5, 15, 17] {
            let error = ip(&vec![0; length], "addresses[2]")
                .unwrap_err()
                .of("workload x");
            assert_eq!(error.field, "addresses[2]");
            assert!(error.why.contains(&format!("{length} bytes")), "{error}");
        }
    }

    #[test]
    fn blocks_are_checked_and_mapped_ones_are_ipv4() {
        let block = |bytes: &[u8], length| ip_block(bytes, length, "f").map(|b| b.to_string());
        assert_eq!(block(&[10, 1, 2, 3], 8).unwrap(), "10.0.0.0/8");
        assert_eq!(block(&[10, 1, 2, 3], 0).unwrap(), "0.0.0.0/0");
        assert!(block(&[10, 1, 2, 3], 33).is_err());
        let mapped: std::net::Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(block(&mapped.octets(), 104).unwrap(), "10.0.0.0/8");
        assert_eq!(block(&mapped.octets(), 80).unwrap(), "::/80");
        assert!(block(&mapped.octets(), 129).is_err());
        assert!(block(&mapped.octets(), 500).is_err());
        assert!(block(&[1, 2], 8).is_err());
    }

    #[test]
    fn the_message_names_object_and_field() {
        let error = port(70000, "ports[0].service_port")
            .unwrap_err()
            .of("service shop/web");
        assert_eq!(
            error.to_string(),
            "service shop/web: field ports[0].service_port: 70000 is no port; at most 65535 is possible"
        );
    }
}
