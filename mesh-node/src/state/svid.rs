//! An X.509 SVID that was checked: it has the identity and the key that were asked for, it is valid now,
//! and its chain leads to a root that came with it.

use mesh_common::identity::SpiffeId;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the certificate authority returned is not what was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SvidError {
    /// A certificate cannot be parsed.
    #[error("certificate {0} of the chain is malformed: {1}")]
    Malformed(usize, String),
    /// There are too few certificates.
    #[error("the chain has {0} certificates; a leaf and a root are needed")]
    Incomplete(usize),
    /// The leaf is for someone else.
    #[error("the certificate is for {found}, not for {asked}")]
    Identity {
        /// What was asked for.
        asked: SpiffeId,
        /// What came.
        found: String,
    },
    /// The leaf has another key.
    #[error("the certificate has another public key than the one that was sent")]
    Key,
    /// The leaf is not valid now, or its chain does not lead to a root that came with it.
    #[error("the certificate does not verify against the roots that came with it: {0}")]
    Chain(String),
}

/// A certificate chain with its key, and the roots to check peers by.
#[derive(Clone)]
pub struct Svid {
    /// Whose it is.
    pub identity: SpiffeId,
    /// Leaf first, without roots.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// The trust bundle.
    pub roots: Vec<CertificateDer<'static>>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("identity", &self.identity)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Svid {
    /// Checks a chain in PEM, leaf first and roots last, for `identity` and the public key
    /// (SubjectPublicKeyInfo, DER) of `key`.
    pub(super) fn from_chain(
        identity: &SpiffeId,
        public_key: &[u8],
        key: PrivateKeyDer<'static>,
        chain: &[String],
        now: SystemTime,
    ) -> Result<Self, SvidError> {
        let (chain, roots) = split(chain)?;
        let [leaf, intermediates @ ..] = chain.as_slice() else {
            return Err(SvidError::Incomplete(0));
        };
        let malformed = |why: String| SvidError::Malformed(0, why);
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| malformed(e.to_string()))?;
        let found = uris(&parsed).map_err(malformed)?;
        if found != [identity.as_str()] {
            let found = if found.is_empty() {
                "nobody".into()
            } else {
                found.join(" and ")
            };
            return Err(SvidError::Identity {
                asked: identity.clone(),
                found,
            });
        }
        if parsed.public_key().raw != public_key {
            return Err(SvidError::Key);
        }
        verify(leaf, intermediates, &roots, now)?;
        let validity = parsed.validity();
        let (not_before, not_after) = (
            time(validity.not_before.timestamp()),
            time(validity.not_after.timestamp()),
        );
        let (identity, key) = (identity.clone(), Arc::new(key));
        Ok(Self {
            identity,
            chain,
            key,
            roots,
            not_before,
            not_after,
        })
    }

    /// Whether it can be used at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

type Certificates = Vec<CertificateDer<'static>>;

/// The first entry is the leaf; every certificate of the last entry is a root, and so is each one in
/// between that issued itself (there are several roots while a root is rotated).
fn split(pem: &[String]) -> Result<(Certificates, Certificates), SvidError> {
    let (mut chain, mut roots) = (Vec::new(), Vec::new());
    for (i, entry) in pem.iter().enumerate() {
        for certificate in CertificateDer::pem_slice_iter(entry.as_bytes()) {
            let certificate = certificate.map_err(|e| SvidError::Malformed(i, e.to_string()))?;
            let last = i > 0 && i + 1 == pem.len();
            if last || (!chain.is_empty() && issued_itself(i, &certificate)?) {
                roots.push(certificate);
            } else {
                chain.push(certificate);
            }
        }
    }
    if chain.is_empty() || roots.is_empty() {
        return Err(SvidError::Incomplete(chain.len() + roots.len()));
    }
    Ok((chain, roots))
}

fn issued_itself(i: usize, certificate: &CertificateDer<'_>) -> Result<bool, SvidError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|e| SvidError::Malformed(i, e.to_string()))?;
    Ok(parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// The URIs that a certificate names; an SVID names one, its SPIFFE ID.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, String> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| e.to_string())?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uri = |name: &GeneralName<'a>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    Ok(names.iter().filter_map(uri).collect())
}

fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), SvidError> {
    let failed = |e: rustls::Error| SvidError::Chain(e.to_string());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(failed)?;
    }
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf).map_err(failed)?,
        &store,
        intermediates,
        UnixTime::since_unix_epoch(since),
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all,
    )
    .map_err(failed)
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
