//! A signing key with a certificate that leads to the mesh's roots: one state of the authority.
//!
//! What was loaded has signed a test certificate that verified against the roots.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use mesh_common::identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::material::{CERTIFICATE, CHAIN, KEY, Material, NEXT, Place, ROOT};
use super::rotation::{Phase, Rotation};
use super::{BACKDATE, CaError, IssueError, pem, sign};

/// The life of a CA made here.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A signing key with a certificate that leads to the mesh's roots.
pub struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate upwards, without the roots.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// The trust bundle.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Those among the roots that certificates of this signer lead to.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// The end of the signing certificate, or of what it hangs on.
    pub(super) not_after: SystemTime,
    /// The rotation under way.
    pub(super) rotation: Option<Rotation>,
}

impl Signer {
    /// The files of a new self-signed authority, as of `now`.
    pub fn create(now: SystemTime) -> Result<Material, rcgen::Error> {
        let key = KeyPair::generate()?;
        let serial = sign::serial();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "weft");
        // Two roots in one bundle are told apart by name as well as by key.
        let named = format!("Weft root CA {:.8}", serial.to_string().replace(':', ""));
        params.distinguished_name.push(DnType::CommonName, named);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial);
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + LIFETIME).into();
        let certificate = params.self_signed(&key)?.pem();
        let mut material = Material::default();
        material.insert(KEY, key.serialize_pem());
        material.insert(ROOT, certificate.as_str());
        material.insert(CERTIFICATE, certificate);
        Ok(material)
    }

    /// The signer that the files name, with every root that they say is trusted, as of `now`.
    pub fn load(material: &Material, place: &Place, now: SystemTime) -> Result<Self, CaError> {
        let rotation = Rotation::of(material)?;
        let follows = rotation
            .as_ref()
            .is_some_and(|rotation| rotation.phase != Phase::Prepared);
        let prefix = if follows { NEXT } else { "" };
        for name in [CERTIFICATE, KEY, ROOT] {
            text(material, place, &format!("{prefix}{name}"))?;
        }
        let mut roots = certificates(material, place, ROOT)?;
        if rotation.is_some() {
            for root in certificates(material, place, &format!("{NEXT}{ROOT}"))? {
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
        }
        if let Some(rotation) = &rotation
            && rotation.phase == Phase::Finishing
        {
            roots.retain(|root| !rotation.retiring.contains(&fingerprint(root)));
        }
        Self::assemble(material, place, prefix, roots, rotation, now)
    }

    fn assemble(
        material: &Material,
        place: &Place,
        prefix: &str,
        roots: Vec<CertificateDer<'static>>,
        rotation: Option<Rotation>,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let named = |name: &str| format!("{prefix}{name}");
        let (cert_name, key_name) = (named(CERTIFICATE), named(KEY));
        let (cert_file, key_file) = (place.file(&cert_name), place.file(&key_name));
        let key = text(material, place, &key_name)?;
        let key = KeyPair::from_pem(key).map_err(|e| CaError::Key {
            file: key_file.clone(),
            reason: e.to_string(),
        })?;
        let mut own = certificates(material, place, &cert_name)?;
        let certificate = own.remove(0);
        check(&cert_file, &certificate, &key, &key_file, now)?;
        let above = match material.get(&named(CHAIN)) {
            Some(_) => certificates(material, place, &named(CHAIN))?,
            None => Vec::new(),
        };
        let mut intermediates: Vec<CertificateDer<'static>> = Vec::new();
        for step in std::iter::once(certificate.clone()).chain(own).chain(above) {
            if !roots.contains(&step) && !intermediates.contains(&step) {
                intermediates.push(step);
            }
        }
        let unusable = |reason: String| CaError::Certificate {
            file: cert_file.clone(),
            reason,
        };
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| unusable(e.to_string()))?;
        let mut signer = Self {
            issuer,
            not_after: end(&certificate).map_err(unusable)?,
            intermediates,
            roots,
            anchors: Vec::new(),
            rotation,
        };
        signer.anchor(now).map_err(|reason| CaError::Chain {
            file: cert_file.clone(),
            root: place.file(ROOT),
            reason,
        })?;
        Ok(signer)
    }

    /// Signs a certificate for nobody and verifies it as a peer would, by each root alone; then bounds
    /// the signer's end by what it hangs on.
    fn anchor(&mut self, now: SystemTime) -> Result<(), String> {
        let leaf = nobody(self, now)?;
        let mut refusal = None;
        for root in &self.roots {
            match verify(&leaf, &self.intermediates, std::slice::from_ref(root), now) {
                Ok(()) => self.anchors.push(root.clone()),
                Err(e) => refusal = refusal.or(Some(e)),
            }
        }
        if self.anchors.is_empty() {
            return Err(refusal.unwrap_or_else(|| "there is no root".into()));
        }
        let last = |all: &[CertificateDer<'static>]| -> Result<Vec<SystemTime>, String> {
            all.iter().map(end).collect()
        };
        let roots_end = last(&self.anchors)?.into_iter().max();
        let ends = last(&self.intermediates)?.into_iter().chain(roots_end);
        self.not_after = ends.fold(self.not_after, SystemTime::min);
        if self.not_after <= now {
            return Err("a certificate between it and the root has expired".into());
        }
        Ok(())
    }

    /// The roots that a peer must trust, PEM.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| pem(root)).collect()
    }

    /// The roots, for people.
    pub fn roots(&self) -> Vec<Root> {
        let describe = |der: &CertificateDer<'static>| Root {
            subject: X509Certificate::from_der(der)
                .map_or_else(|e| e.to_string(), |(_, root)| root.subject().to_string()),
            fingerprint: fingerprint(der),
            signs: self.anchors.contains(der),
        };
        self.roots.iter().map(describe).collect()
    }

    /// When nothing it signs is valid any more.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A serving certificate for DNS names and addresses, with what leads to the roots.
    pub fn serving_chain(
        &self,
        names: &[String],
        key: &impl PublicKeyData,
        ttl: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let leaf = sign::server(self, names, key, ttl, SystemTime::now())?;
        Ok(std::iter::once(leaf.certificate)
            .chain(self.intermediates.iter().cloned())
            .collect())
    }
}

/// A root of the bundle.
pub struct Root {
    /// Its subject.
    pub subject: String,
    /// SHA-256, in hexadecimal.
    pub fingerprint: String,
    /// Whether what is signed now leads to it.
    pub signs: bool,
}

fn text<'a>(material: &'a Material, place: &Place, name: &str) -> Result<&'a str, CaError> {
    let content = material.get(name).ok_or_else(|| CaError::Missing {
        file: place.file(name),
    })?;
    std::str::from_utf8(content).map_err(|e| CaError::Read {
        file: place.file(name),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, e),
    })
}

/// The certificates of a file, at least one.
pub(super) fn certificates(
    material: &Material,
    place: &Place,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let bad = |reason: String| CaError::Certificate {
        file: place.file(name),
        reason,
    };
    let text = text(material, place, name)?;
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

/// The signing certificate is a CA's, in its time, and that of the key.
fn check(
    file: &str,
    der: &CertificateDer<'_>,
    key: &KeyPair,
    key_file: &str,
    now: SystemTime,
) -> Result<(), CaError> {
    let file = || file.to_owned();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| CaError::Certificate {
        file: file(),
        reason: e.to_string(),
    })?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(CaError::Mismatch {
            key: key_file.to_owned(),
            certificate: file(),
        });
    }
    if !certificate.is_ca() {
        return Err(CaError::NotACa { file: file() });
    }
    let end = certificate.validity().not_after;
    if seconds(end.timestamp()) <= now {
        return Err(CaError::Expired {
            file: file(),
            at: end.to_string(),
        });
    }
    Ok(())
}

fn end(der: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    Ok(seconds(certificate.validity().not_after.timestamp()))
}

fn seconds(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or_default())
}

/// SHA-256, in hexadecimal.
pub(super) fn fingerprint(der: &CertificateDer<'_>) -> String {
    let hash = digest::digest(&digest::SHA256, der);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn nobody(signer: &Signer, now: SystemTime) -> Result<CertificateDer<'static>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let key = KeyPair::generate().map_err(|e| text(&e))?;
    let nobody: TrustDomain = "self-test.invalid".parse().map_err(|e| text(&e))?;
    let nobody = SpiffeId::new(&nobody, "self", "test").map_err(|e| text(&e))?;
    let leaf = sign::workload(signer, &nobody, &key, Duration::from_secs(60), now);
    Ok(leaf.map_err(|e| text(&e))?.certificate)
}

/// Verifies a leaf against roots as a peer would at `now`.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|e| text(&e))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|e| text(&e))?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier
        .verify_client_cert(leaf, intermediates, now)
        .map(|_| ())
        .map_err(|e| text(&e))
}
