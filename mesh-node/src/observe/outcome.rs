//! How a connection ended.

/// Why a connection did not end well, in the field's short forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Nothing to flag.
    Ok,
    /// Refused by policy, or closed when policy changed.
    Denied,
    /// The destination or the next hop could not be reached.
    Connect,
    /// TLS with the peer failed.
    Tls,
    /// HTTP/2 with the peer failed, or its request was malformed.
    Http2,
    /// An identity was unknown or could not be had.
    Identity,
}

impl Flag {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "-",
            Self::Denied => "DENY",
            Self::Connect => "CONNECT",
            Self::Tls => "TLS_FAILURE",
            Self::Http2 => "H2_HANDSHAKE_FAILURE",
            Self::Identity => "IDENTITY_ERROR",
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub struct Outcome {
    pub(super) flag: Flag,
    pub(super) error: Option<String>,
}

impl Outcome {
    /// It ran to its end.
    #[must_use]
    pub fn completed() -> Self {
        Self {
            flag: Flag::Ok,
            error: None,
        }
    }

    /// It failed, or was refused, for the reason given.
    #[must_use]
    pub fn failed(flag: Flag, error: impl std::fmt::Display) -> Self {
        Self {
            flag,
            error: Some(error.to_string()),
        }
    }
}
