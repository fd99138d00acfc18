//! Certificates made outside the mesh: stolen ones (by the mesh's own CA) and forged ones (by another).

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate authority in the hands of a test.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// The mesh's own, from the controller's folder.
    pub fn of_mesh(ca_dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = ca_dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let key = KeyPair::from_pem(&read("ca-key.pem")?)?;
        Ok(Self(Issuer::from_ca_cert_pem(&read("ca-cert.pem")?, key)?))
    }

    /// One that nobody trusts.
    pub fn stranger() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "stranger");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(Issuer::new(params, key)))
    }

    /// A certificate for these URIs, with its key, as one PEM file at `path`.
    pub fn issue(&self, uris: &[&str], path: PathBuf) -> Result<PathBuf> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into()?));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &self.0)?;
        fs::write(&path, certificate.pem() + &key.serialize_pem())?;
        Ok(path)
    }
}
