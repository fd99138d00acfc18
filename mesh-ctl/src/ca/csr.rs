//! Reads a certificate request. Only its public key is used; everything else in it is checked to be
//! what the caller says it asks for, or to be absent.

use mesh_common::identity::SpiffeId;
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The shortest RSA key that is signed.
const MIN_RSA_BITS: usize = 2048;

/// A certificate request is refused.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// It does not parse.
    #[error("the CSR is not a PEM PKCS #10 request: {0}")]
    Malformed(String),
    /// The requester does not hold the key.
    #[error("the CSR is not signed by its own key")]
    Signature,
    /// The key is too weak or of an unknown kind.
    #[error(
        "the CSR's key is {0}; use ECDSA P-256 or P-384, or RSA of at least {MIN_RSA_BITS} bits"
    )]
    Key(String),
    /// It asks for another name than the caller did.
    #[error("the CSR names {found}, and not only {wanted}")]
    ForeignName {
        /// What it names.
        found: String,
        /// What was asked for.
        wanted: Box<SpiffeId>,
    },
}

impl CsrError {
    /// A short name, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_csr",
            Self::Signature => "csr_signature",
            Self::Key(_) => "csr_key",
            Self::ForeignName { .. } => "csr_foreign_name",
        }
    }
}

/// The key to sign for `identity`.
pub(super) fn public_key(pem: &str, identity: &SpiffeId) -> Result<SubjectPublicKeyInfo, CsrError> {
    let malformed = |e: &dyn std::fmt::Display| CsrError::Malformed(e.to_string());
    let der =
        CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|e| malformed(&e))?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|e| malformed(&e))?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed("there are bytes after its end".into()));
    }
    let spki = &csr.certification_request_info.subject_pki;
    check_key(&spki.parsed().map_err(|e| malformed(&e))?)?;
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    check_names(&csr, identity)?;
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|e| CsrError::Key(e.to_string()))
}

fn check_key(key: &PublicKey<'_>) -> Result<(), CsrError> {
    match key {
        PublicKey::RSA(rsa) if rsa.key_size() >= MIN_RSA_BITS => Ok(()),
        PublicKey::RSA(rsa) => Err(CsrError::Key(format!("RSA of {} bits", rsa.key_size()))),
        PublicKey::EC(point) if matches!(point.key_size(), 256 | 384) => Ok(()),
        PublicKey::EC(point) => Err(CsrError::Key(format!("ECDSA of {} bits", point.key_size()))),
        _ => Err(CsrError::Key("of another kind".into())),
    }
}

fn check_names(csr: &X509CertificationRequest<'_>, identity: &SpiffeId) -> Result<(), CsrError> {
    let foreign = |found: String| CsrError::ForeignName {
        found,
        wanted: Box::new(identity.clone()),
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                for name in &san.general_names {
                    match name {
                        GeneralName::URI(uri) if *uri == identity.as_str() => {}
                        other => return Err(foreign(other.to_string())),
                    }
                }
            }
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(foreign("a CA".into()));
            }
            _ => {}
        }
    }
    Ok(())
}
