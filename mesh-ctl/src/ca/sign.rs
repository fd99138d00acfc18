//! Signing. Every leaf has a random serial, an empty subject, and names only in its SAN.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use mesh_common::identity::SpiffeId;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use super::{BACKDATE, Signer};

/// A certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority's own certificate is past its time.
    #[error("the CA certificate has expired; replace ca-cert.pem")]
    CaExpired,
    /// A name cannot be put into a certificate.
    #[error("{0:?} cannot be a name in a certificate")]
    Name(String),
    /// The signature failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A signed certificate.
#[derive(Debug)]
pub struct Issued {
    /// The leaf.
    pub certificate: CertificateDer<'static>,
    /// For the audit log.
    pub serial: String,
    /// When it expires.
    pub not_after: SystemTime,
}

/// Signs a workload's certificate as of `now`, for `ttl` or until the signer's own end.
pub(super) fn workload(
    signer: &Signer,
    identity: &SpiffeId,
    key: &impl PublicKeyData,
    ttl: Duration,
    now: SystemTime,
) -> Result<Issued, IssueError> {
    let uri = identity.to_string();
    let name = Ia5String::try_from(uri.as_str()).map_err(|_| IssueError::Name(uri))?;
    leaf(signer, vec![SanType::URI(name)], key, ttl, now)
}

/// Signs a serving certificate for DNS names and addresses.
pub(super) fn server(
    signer: &Signer,
    names: &[String],
    key: &impl PublicKeyData,
    ttl: Duration,
    now: SystemTime,
) -> Result<Issued, IssueError> {
    let san = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ia5String::try_from(name.as_str())
            .map(SanType::DnsName)
            .map_err(|_| IssueError::Name(name.clone())),
    };
    let names = names.iter().map(san).collect::<Result<_, _>>()?;
    leaf(signer, names, key, ttl, now)
}

pub(super) fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    // Positive, and never shorter than it looks.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from(bytes.to_vec())
}

fn leaf(
    signer: &Signer,
    names: Vec<SanType>,
    key: &impl PublicKeyData,
    ttl: Duration,
    now: SystemTime,
) -> Result<Issued, IssueError> {
    if signer.not_after <= now {
        return Err(IssueError::CaExpired);
    }
    let not_after = (now + ttl).min(signer.not_after);
    let serial = serial();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.serial_number = Some(serial.clone());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = not_after.into();
    let certificate = params.signed_by(key, &signer.issuer)?.into();
    Ok(Issued {
        certificate,
        serial: serial.to_string(),
        not_after,
    })
}
