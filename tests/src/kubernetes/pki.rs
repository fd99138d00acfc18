//! The certificates, keys and configuration of one control plane.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub(super) const CA: &str = "ca.crt";
pub(super) const SERVER_CERTIFICATE: &str = "apiserver.crt";
pub(super) const SERVER_KEY: &str = "apiserver.key";
pub(super) const ACCOUNTS_KEY: &str = "accounts.key";
pub(super) const ACCOUNTS_PUBLIC: &str = "accounts.pub";
pub(super) const KUBECONFIG: &str = "kubeconfig";

/// Makes everything that an API server on `port` needs, in `directory`.
pub(super) fn write(directory: &Path, port: u16) -> Result<()> {
    let put = |name: &str, text: &str| {
        let path = directory.join(name);
        let mut options = fs::File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    };
    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let server_key = KeyPair::generate()?;
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = server.signed_by(&server_key, &ca)?;

    let admin_key = KeyPair::generate()?;
    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let admin = admin.signed_by(&admin_key, &ca)?;

    let accounts = KeyPair::generate()?;
    put(CA, &ca.pem())?;
    put(SERVER_CERTIFICATE, &server.pem())?;
    put(SERVER_KEY, &server_key.serialize_pem())?;
    put(ACCOUNTS_KEY, &accounts.serialize_pem())?;
    put(ACCOUNTS_PUBLIC, &accounts.public_key_pem())?;

    let encode = |pem: String| STANDARD.encode(pem);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "weft", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": encode(ca.pem()),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": encode(admin.pem()),
            "client-key-data": encode(admin_key.serialize_pem()),
        }}],
        "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": "admin"}}],
        "current-context": "weft",
    });
    // JSON is YAML.
    put(KUBECONFIG, &config.to_string())
}
