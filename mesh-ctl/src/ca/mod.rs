//! The certificate authority: signs what [`crate::auth`] permitted, and nothing else.

mod csr;
mod error;
mod files;
mod service;
mod sign;

pub use csr::CsrError;
pub use error::CaError;
pub use service::CertificateService;
pub use sign::{IssueError, Issued};

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;

/// Clocks of nodes may be behind by this much.
const BACKDATE: Duration = Duration::from_secs(120);

/// A signing key with a certificate that leads to the mesh's roots.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate upwards, without the roots.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
}

impl Authority {
    /// Loads the authority of `directory`, or creates a self-signed one when the directory is empty
    /// or absent.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        files::open(directory)
    }

    /// The roots that a peer must trust, PEM.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| pem(root)).collect()
    }

    /// A serving certificate for DNS names and addresses, with what leads to the roots.
    pub fn serving_chain(
        &self,
        names: &[String],
        key: &impl PublicKeyData,
        ttl: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let leaf = sign::server(self, names, key, ttl)?;
        Ok(std::iter::once(leaf.certificate)
            .chain(self.intermediates.iter().cloned())
            .collect())
    }

    /// When the signing certificate expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

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
