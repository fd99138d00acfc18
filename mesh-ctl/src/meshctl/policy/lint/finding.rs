//! What a check says.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Worth knowing; it may well be meant.
    Info,
    /// It does not do what it says.
    Warning,
    /// It cannot be used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Which check it is. The names stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Code {
    /// An object that cannot be read.
    InvalidObject,
    /// A policy that agents are not sent.
    NotSent,
    /// A policy whose workloads are not in the mesh.
    NotEnrolled,
    /// A selector without a pod.
    SelectsNothing,
    /// A rule that no connection can match.
    NeverMatches,
    /// A DENY or AUDIT policy without rules.
    NoRules,
    /// An ALLOW policy without rules.
    DenyAll,
    /// An ALLOW rule whose connections are all denied by a DENY rule.
    UnreachableRule,
    /// A rule that another rule makes redundant.
    ShadowedRule,
    /// A field that L4 does not read.
    L7Ignored,
    /// A principal of another trust domain.
    ForeignTrustDomain,
    /// A pattern of principals that no principal can match.
    MalformedPrincipal,
    /// A namespace that is not there.
    UnknownNamespace,
    /// A service account that is not there.
    UnknownServiceAccount,
    /// A pattern that matches nobody who is there.
    UnknownPrincipal,
    /// The port of a service instead of the port of its pods.
    ServicePort,
    /// A port that no pod declares.
    UnknownPort,
    /// A PeerAuthentication that another one sets aside.
    PeerAuthenticationIgnored,
    /// A rule for plaintext where plaintext is refused.
    PlaintextRefused,
    /// Plaintext is let in where the rest is STRICT.
    StrictWeakened,
    /// DISABLE, which is as PERMISSIVE.
    DisableIsPermissive,
    /// Plaintext is accepted, but no rule can allow it.
    PlaintextImpossible,
    /// A check was not made for want of objects.
    NotChecked,
}

impl Code {
    /// How much it matters.
    #[must_use]
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::InvalidObject => Severity::Error,
            Self::DenyAll
            | Self::UnknownPort
            | Self::StrictWeakened
            | Self::DisableIsPermissive
            | Self::PlaintextImpossible
            | Self::NotChecked => Severity::Info,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Finding {
    /// The file; empty when it is about the whole directory.
    pub(super) file: String,
    /// Which document of the file, from 1; 0 when it is about the whole directory.
    pub(super) document: usize,
    /// `Kind namespace/name`; empty when it is about the whole directory or an object without a name.
    pub(super) object: String,
    /// The field, as YAML spells its path; empty when it is about the whole object.
    pub(super) field: String,
    /// Which check it is.
    pub(super) code: Code,
    /// How much it matters.
    pub(super) severity: Severity,
    /// What is found.
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: String,
}
