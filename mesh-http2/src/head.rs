//! The head of a message: pseudo-header fields and fields, checked as RFC 9113 section 8 demands.

/// What a HEADERS frame said. All fields share one buffer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Head {
    bytes: Vec<u8>,
    /// For each field, where its name and where its value ends.
    ends: Vec<(usize, usize)>,
}

/// Why a head is malformed: a stream error (RFC 9113, section 8.1.1).
pub(crate) type Malformed = &'static str;

/// Fields that belong to one connection in HTTP/1.1 and make an HTTP/2 message malformed
/// (section 8.2.2).
const CONNECTION_SPECIFIC: [&[u8]; 5] = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
];

impl Head {
    /// Adds one field, in the order of the header block.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len()));
    }

    /// All fields, pseudo-header fields first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let field = (
                self.bytes.get(start..name_end).unwrap_or_default(),
                self.bytes.get(name_end..value_end).unwrap_or_default(),
            );
            start = value_end;
            field
        })
    }

    /// The first field of this (lower-case) name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find_map(|(n, value)| (n == name.as_bytes()).then_some(value))
    }

    /// `:method` of a request.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.get(":method").unwrap_or_default()
    }

    /// `:authority` of a request.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.get(":authority").unwrap_or_default()
    }

    /// `:status` of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let digits = self.get(":status")?;
        let valid = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
        valid.then(|| {
            digits
                .iter()
                .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        })
    }

    /// Whether this is a well-formed request: section 8.3.1, and 8.5 for CONNECT.
    pub(crate) fn check_request(&self) -> Result<(), Malformed> {
        self.check_fields(&[":method", ":scheme", ":authority", ":path"])?;
        match (self.method(), self.get(":scheme"), self.get(":path")) {
            (b"", ..) => Err("a request without :method"),
            (b"CONNECT", None, None) if self.authority().is_empty() => {
                Err("CONNECT without :authority")
            }
            (b"CONNECT", None, None) => Ok(()),
            (b"CONNECT", ..) => Err("CONNECT with :scheme or :path"),
            (_, Some(_), Some(path)) if !path.is_empty() => Ok(()),
            _ => Err("a request without :scheme or :path"),
        }
    }

    /// Whether this is a well-formed response: sections 8.3.2 and 8.6.
    pub(crate) fn check_response(&self) -> Result<(), Malformed> {
        self.check_fields(&[":status"])?;
        match self.status() {
            Some(101) => Err("101, which HTTP/2 does not have"),
            Some(100..) => Ok(()),
            _ => Err("a response without a valid :status"),
        }
    }

    fn check_fields(&self, pseudo: &[&str]) -> Result<(), Malformed> {
        let mut seen = 0_u8;
        let mut regular = false;
        for (name, value) in self.iter() {
            if name.first() == Some(&b':') {
                let Some(index) = pseudo.iter().position(|p| p.as_bytes() == name) else {
                    return Err("a pseudo-header field that is not defined here");
                };
                if regular {
                    return Err("a pseudo-header field after other fields");
                }
                if seen & (1 << index) != 0 {
                    return Err("a pseudo-header field twice");
                }
                seen |= 1 << index;
            } else {
                regular = true;
                check_name(name)?;
                if name == b"te" && value != b"trailers" {
                    return Err("te other than trailers");
                }
            }
            check_value(value)?;
        }
        Ok(())
    }
}

/// Section 8.2.1: the least that must be checked of a name.
fn check_name(name: &[u8]) -> Result<(), Malformed> {
    let forbidden = |b: &u8| matches!(b, 0..=0x20 | b'A'..=b'Z' | b':' | 0x7f..=0xff);
    if name.is_empty() || name.iter().any(forbidden) {
        return Err("a field name with characters that are not allowed");
    }
    if CONNECTION_SPECIFIC.contains(&name) {
        return Err("a connection-specific field");
    }
    Ok(())
}

/// Section 8.2.1: the least that must be checked of a value.
fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let forbidden = |b: &u8| matches!(b, 0 | b'\n' | b'\r');
    if value.iter().any(forbidden) || blank(value.first()) || blank(value.last()) {
        return Err("a field value with characters that are not allowed");
    }
    Ok(())
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (text(name), text(value))))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn fields_are_read_back() {
        let head = head(&[
            (":method", "CONNECT"),
            (":authority", "10.0.0.1:80"),
            ("a", ""),
        ]);
        assert_eq!(head.method(), b"CONNECT");
        assert_eq!(head.authority(), b"10.0.0.1:80");
        assert_eq!(head.get("a"), Some(&b""[..]));
        assert_eq!(head.get("b"), None);
        assert_eq!(head.iter().count(), 3);
    }

    #[test]
    fn requests() {
        let connect = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];
        let get = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
        assert!(head(&connect).check_request().is_ok());
        assert!(head(&get).check_request().is_ok());
        for (base, extra) in [
            (&connect[..1], &[][..]),
            (&connect[1..], &[]),
            (&connect[..], &[(":path", "/")]),
            (&connect[..], &[(":authority", "10.0.0.1:80")]),
            (&connect[..], &[(":status", "200")]),
            (&connect[..], &[("Upper", "a")]),
            (&connect[..], &[("", "a")]),
            (&connect[..], &[("a b", "a")]),
            (&connect[..], &[("a", "b\r\nc: d")]),
            (&connect[..], &[("a", " b")]),
            (&connect[..], &[("connection", "close")]),
            (&connect[..], &[("te", "gzip")]),
            (&connect[..1], &[("a", "b"), (":authority", "10.0.0.1:80")]),
            (&get[..2], &[]),
            (&get[..2], &[(":path", "")]),
        ] {
            let fields = [base, extra].concat();
            assert!(head(&fields).check_request().is_err(), "{fields:?}");
        }
    }

    #[test]
    fn responses() {
        assert_eq!(head(&[(":status", "200")]).status(), Some(200));
        for bad in ["", "20", "2000", "2x0", "-20", "099", "101"] {
            assert!(head(&[(":status", bad)]).check_response().is_err(), "{bad}");
        }
        assert!(head(&[]).check_response().is_err());
    }
}
