//! The certificate authority: signs what [`crate::auth`] permitted, and nothing else.
//!
//! Its files are kept in one place, a directory or a Secret. What changes there is put in force while the
//! controller runs, if it is usable; a root is changed by the steps of [`rotation`].

mod authority;
pub mod bundle;
pub mod command;
mod csr;
mod directory;
mod error;
pub mod material;
pub mod options;
pub mod rotation;
mod secret;
mod service;
mod sign;
mod signer;
pub mod store;

pub use authority::{Authority, Follower};
pub use csr::CsrError;
pub use directory::Directory;
pub use error::CaError;
pub use material::{Material, Place};
pub use rotation::RotationError;
pub use secret::SecretStore;
pub use service::CertificateService;
pub use sign::{IssueError, Issued};
pub use signer::Signer;

#[cfg(test)]
mod tests;

use std::time::Duration;

use rustls_pki_types::CertificateDer;

/// Clocks of nodes may be behind by this much.
const BACKDATE: Duration = Duration::from_secs(120);

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut out = String::with_capacity(text.len() + 80);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
