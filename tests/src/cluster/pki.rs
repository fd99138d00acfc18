//! The certificates, keys and configurations of one cluster. Each node has an identity of its own: kubelet may
//! read only what its own pods use.

use super::layout::{API, NODES};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The first address of services: Kubernetes' own.
const KUBERNETES: &str = "10.96.0.1";

/// A certificate authority that writes what it issues.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// Makes everything that the cluster needs, in `directory`.
pub(super) fn write(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = Authority {
        issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        directory: directory.to_owned(),
    };
    authority.put("ca.crt", &authority.issuer.pem())?;
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        KUBERNETES,
        NODES[0].address,
    ];
    authority.serve("apiserver", "kube-apiserver", None, &names)?;
    authority.client("kubelet-client", "kube-apiserver", Some("system:masters"))?;
    authority.user("admin", "admin", Some("system:masters"))?;
    for component in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        authority.user(component, &format!("system:{component}"), None)?;
    }
    for node in &NODES {
        let name = format!("system:node:{}", node.name);
        let group = Some("system:nodes");
        authority.user(&format!("kubelet-{}", node.name), &name, group)?;
        let names = [node.name, node.address, "127.0.0.1"];
        authority.serve(
            &format!("kubelet-serving-{}", node.name),
            &name,
            group,
            &names,
        )?;
    }
    let accounts = KeyPair::generate()?;
    authority.put("accounts.key", &accounts.serialize_pem())?;
    authority.put("accounts.pub", &accounts.public_key_pem())
}

impl Authority {
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        let mut options = fs::File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    fn issue(
        &self,
        file: &str,
        mut params: CertificateParams,
        (name, group): (&str, Option<&str>),
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        self.put(&format!("{file}.crt"), &certificate)?;
        self.put(&format!("{file}.key"), &key)?;
        Ok((certificate, key))
    }

    fn serve(&self, file: &str, name: &str, group: Option<&str>, names: &[&str]) -> Result<()> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names)?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue(file, params, (name, group), usage).map(drop)
    }

    fn client(&self, file: &str, name: &str, group: Option<&str>) -> Result<(String, String)> {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(file, CertificateParams::default(), (name, group), usage)
    }

    /// A client and its configuration, which holds all it needs.
    fn user(&self, file: &str, name: &str, group: Option<&str>) -> Result<()> {
        let (certificate, key) = self.client(file, name, group)?;
        let encode = |pem: &str| STANDARD.encode(pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "weft", "cluster": {
                "server": API,
                "certificate-authority-data": encode(&self.issuer.pem()),
            }}],
            "users": [{"name": file, "user": {
                "client-certificate-data": encode(&certificate),
                "client-key-data": encode(&key),
            }}],
            "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": file}}],
            "current-context": "weft",
        });
        // JSON is YAML.
        self.put(&format!("{file}.kubeconfig"), &config.to_string())
    }
}
