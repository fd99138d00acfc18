//! The CA directory, by the conventional names: `ca-cert.pem` and `ca-key.pem` sign, `cert-chain.pem`
//! (optional) leads from the signing certificate towards `root-cert.pem`, which peers trust.
//!
//! What was opened has signed a test certificate that verified against the roots.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_common::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authority, BACKDATE, CaError, sign};

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOT: &str = "root-cert.pem";
/// The life of a CA made here.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) fn open(directory: &Path) -> Result<Authority, CaError> {
    let exists = |name: &str| directory.join(name).symlink_metadata().is_ok();
    if ![CERTIFICATE, KEY, CHAIN, ROOT].into_iter().any(exists) {
        create(directory)?;
        tracing::info!(directory = %directory.display(), "created a self-signed certificate authority");
    }
    load(directory)
}

fn load(directory: &Path) -> Result<Authority, CaError> {
    let (cert_file, key_file) = (directory.join(CERTIFICATE), directory.join(KEY));
    let (chain_file, root_file) = (directory.join(CHAIN), directory.join(ROOT));
    for file in [&cert_file, &key_file, &root_file] {
        if file.symlink_metadata().is_err() {
            return Err(CaError::Missing { file: file.clone() });
        }
    }
    let key_pem = read(&key_file)?;
    let key = KeyPair::from_pem(&key_pem).map_err(|e| CaError::Key {
        file: key_file.clone(),
        reason: e.to_string(),
    })?;
    warn_if_readable(&key_file);

    let mut own = certificates(&cert_file)?;
    let certificate = own.remove(0);
    let not_after = check(&cert_file, &certificate, &key, &key_file)?;
    let roots = certificates(&root_file)?;
    let above = match chain_file.symlink_metadata() {
        Ok(_) => certificates(&chain_file)?,
        Err(_) => Vec::new(),
    };
    let mut intermediates: Vec<CertificateDer<'static>> = Vec::new();
    for step in std::iter::once(certificate.clone()).chain(own).chain(above) {
        if !roots.contains(&step) && !intermediates.contains(&step) {
            intermediates.push(step);
        }
    }
    let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| CaError::Certificate {
        file: cert_file.clone(),
        reason: e.to_string(),
    })?;
    let authority = Authority {
        issuer,
        intermediates,
        roots,
        not_after,
    };
    prove(&authority).map_err(|reason| CaError::Chain {
        file: cert_file,
        root: root_file,
        reason,
    })?;
    Ok(authority)
}

fn read(file: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(file).map_err(|source| CaError::Read {
        file: file.to_owned(),
        source,
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let bad = |reason: String| CaError::Certificate {
        file: file.to_owned(),
        reason,
    };
    let text = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|e| bad(format!("is not valid PEM: {e}")))?;
    if all.is_empty() {
        return Err(bad("holds no certificate".into()));
    }
    for der in &all {
        X509Certificate::from_der(der)
            .map_err(|e| bad(format!("holds no valid certificate: {e}")))?;
    }
    Ok(all)
}

/// The signing certificate is a CA's, in its time, and that of the key; returns its end.
fn check(
    file: &Path,
    der: &CertificateDer<'_>,
    key: &KeyPair,
    key_file: &Path,
) -> Result<SystemTime, CaError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| CaError::Certificate {
        file: file.to_owned(),
        reason: e.to_string(),
    })?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(CaError::Mismatch {
            key: key_file.to_owned(),
            certificate: file.to_owned(),
        });
    }
    if !certificate.is_ca() {
        return Err(CaError::NotACa {
            file: file.to_owned(),
        });
    }
    let end = certificate.validity().not_after;
    let seconds = u64::try_from(end.timestamp()).unwrap_or_default();
    let end_time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    if end_time <= SystemTime::now() {
        return Err(CaError::Expired {
            file: file.to_owned(),
            at: end.to_string(),
        });
    }
    Ok(end_time)
}

/// Signs a certificate for nobody and verifies it as a peer would.
fn prove(authority: &Authority) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let key = KeyPair::generate().map_err(|e| text(&e))?;
    let nobody: TrustDomain = "self-test.invalid".parse().map_err(|e| text(&e))?;
    let nobody = SpiffeId::new(&nobody, "self", "test").map_err(|e| text(&e))?;
    let leaf =
        sign::workload(authority, &nobody, &key, Duration::from_secs(60)).map_err(|e| text(&e))?;
    let mut roots = rustls::RootCertStore::empty();
    for root in &authority.roots {
        roots.add(root.clone()).map_err(|e| text(&e))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| text(&e))?;
    verifier
        .verify_client_cert(&leaf.certificate, &authority.intermediates, UnixTime::now())
        .map(|_| ())
        .map_err(|e| text(&e))
}

fn warn_if_readable(key_file: &Path) {
    let mode = std::fs::metadata(key_file)
        .map(|m| m.permissions().mode())
        .unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(
            file = %key_file.display(), mode = format!("{:o}", mode & 0o777),
            "others than its owner may read the CA key; make it 0600"
        );
    }
}

fn create(directory: &Path) -> Result<(), CaError> {
    let fault = |file: &Path| {
        let file = file.to_owned();
        move |source: std::io::Error| CaError::Write { file, source }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(fault(directory))?;
    let made = |e: rcgen::Error| CaError::Key {
        file: directory.join(KEY),
        reason: format!("cannot make a CA: {e}"),
    };
    let key = KeyPair::generate().map_err(made)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "weft");
    params
        .distinguished_name
        .push(DnType::CommonName, "Weft root CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(sign::serial());
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LIFETIME).into();
    let certificate = params.self_signed(&key).map_err(made)?.pem();
    // The certificate last: without it the directory is visibly incomplete.
    let files = [
        (KEY, key.serialize_pem()),
        (ROOT, certificate.clone()),
        (CERTIFICATE, certificate),
    ];
    for (name, content) in files {
        let path = directory.join(name);
        let mode = if name == KEY { 0o600 } else { 0o644 };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        file.and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        })
        .map_err(fault(&path))?;
    }
    Ok(())
}
