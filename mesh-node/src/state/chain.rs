//! The certificates of an SVID, for the operator.

use mesh_common::admin::ChainCertificate;
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::rfc3339;
use super::svid::{Svid, uris};

/// The SVID, what leads from it to a root, and the roots.
pub(super) fn describe(svid: &Svid) -> Vec<ChainCertificate> {
    let roles = std::iter::once("leaf").chain(std::iter::repeat("intermediate"));
    let chain = roles.zip(&svid.chain);
    let roots = svid.roots.iter().map(|root| ("root", root));
    chain
        .chain(roots)
        .filter_map(|(role, certificate)| one(role, certificate))
        .collect()
}

/// None for what is no certificate, which an SVID that was checked does not hold.
fn one(role: &str, certificate: &CertificateDer<'_>) -> Option<ChainCertificate> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let named = uris(&parsed).unwrap_or_default();
    let subject = || parsed.subject().to_string();
    let at = |seconds: i64| -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let validity = parsed.validity();
    Some(ChainCertificate {
        role: role.to_owned(),
        name: named
            .first()
            .map_or_else(subject, |name| (*name).to_owned()),
        serial: parsed
            .raw_serial()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect(),
        not_before: rfc3339(at(validity.not_before.timestamp())),
        not_after: rfc3339(at(validity.not_after.timestamp())),
    })
}
