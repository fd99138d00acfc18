//! The authority: its files, its refusals, and what its certificates say.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_common::identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Authority, csr, sign};

fn identity() -> SpiffeId {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        std::fs::write(directory.join(name), content).unwrap();
    }
}

fn refusal(directory: &Path) -> String {
    let Err(error) = Authority::open(directory) else {
        panic!("was accepted")
    };
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn creates_once_and_loads_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca");
    let first = Authority::open(&path).unwrap();
    let mode = std::fs::metadata(path.join("ca-key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(first.not_after() > SystemTime::now() + Duration::from_secs(9 * 365 * 24 * 3600));
    let again = Authority::open(&path).unwrap();
    assert_eq!(first.roots_pem(), again.roots_pem());
}

#[test]
fn a_leaf_says_what_it_must_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issued = sign::workload(&authority, &identity(), &key, Duration::from_secs(3600)).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(
        san.value.general_names,
        [GeneralName::URI(identity().as_str())]
    );
    assert!(!leaf.is_ca());
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let validity = leaf.validity();
    assert_eq!(
        validity.not_after.timestamp() - validity.not_before.timestamp(),
        3600 + 120
    );
    let other = sign::workload(&authority, &identity(), &key, Duration::from_secs(3600)).unwrap();
    assert_ne!(issued.serial, other.serial);
}

#[test]
fn an_intermediate_is_loaded_and_sent() {
    let directory = tempfile::tempdir().unwrap();
    let root =
        CertifiedIssuer::self_signed(ca_params("root"), KeyPair::generate().unwrap()).unwrap();
    let middle_key = KeyPair::generate().unwrap();
    let key_pem = middle_key.serialize_pem();
    let middle = CertifiedIssuer::signed_by(ca_params("middle"), middle_key, &root).unwrap();
    let chain = middle.pem() + &root.pem();
    write(
        directory.path(),
        &[
            ("ca-cert.pem", &middle.pem()),
            ("ca-key.pem", &key_pem),
            ("root-cert.pem", &root.pem()),
            ("cert-chain.pem", &chain),
        ],
    );
    let authority = Authority::open(directory.path()).unwrap();
    assert_eq!(authority.intermediates, [middle.der().clone()]);
    assert_eq!(authority.roots, [root.der().clone()]);

    let stranger =
        CertifiedIssuer::self_signed(ca_params("stranger"), KeyPair::generate().unwrap()).unwrap();
    write(directory.path(), &[("root-cert.pem", &stranger.pem())]);
    assert!(refusal(directory.path()).contains("does not verify against"));
}

#[test]
fn bad_files_are_named_with_the_remedy() {
    let fresh = || {
        let directory = tempfile::tempdir().unwrap();
        Authority::open(directory.path()).unwrap();
        directory
    };
    let directory = fresh();
    write(directory.path(), &[("ca-key.pem", "not a key")]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is not a private key"), "{line}");

    let other = KeyPair::generate().unwrap().serialize_pem();
    write(directory.path(), &[("ca-key.pem", &other)]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is not the key of"), "{line}");

    std::fs::remove_file(directory.path().join("ca-key.pem")).unwrap();
    std::fs::create_dir(directory.path().join("ca-key.pem")).unwrap();
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: cannot read it"), "{line}");

    std::fs::remove_dir(directory.path().join("ca-key.pem")).unwrap();
    let line = refusal(directory.path());
    assert!(line.contains("ca-key.pem: is missing"), "{line}");

    let directory = fresh();
    write(directory.path(), &[("ca-cert.pem", "nothing")]);
    let line = refusal(directory.path());
    assert!(line.contains("ca-cert.pem: holds no certificate"), "{line}");

    for (expired, wanted) in [(true, "expired on"), (false, "is not a CA certificate")] {
        let mut params = ca_params("x");
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        } else {
            params.is_ca = IsCa::NoCa;
        }
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("ca-cert.pem", &*pem),
            ("root-cert.pem", &pem),
            ("ca-key.pem", &key),
        ];
        write(directory.path(), &files);
        let line = refusal(directory.path());
        assert!(line.contains(wanted), "{line}");
    }
}

fn request(names: &[&str], key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| SanType::URI((*name).try_into().unwrap()))
        .collect();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// An RSA key of 1024 bits, properly signed.
const SHORT_RSA: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBSzCBtQIBADAMMQowCAYDVQQDDAF4MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
iQKBgQDCr8ndLpOEo40Yyk5E0dBJAHJx/27EiSlWtn3a/m/2tZANS2viW+LTksrq
ffpm5ysS+UrqezzaUIubidTg3pVQCnQaM+g/heGyes2VkiRtTMRTxZzxWH8cQfa+
Yh2pYwMFgUHvnqNi9I07zCreNpxI/KPh6girJL6Y3Yz+JjfrnwIDAQABoAAwDQYJ
KoZIhvcNAQELBQADgYEAVey5dUAZfkXh8pKBe0r9sTKDRUvsVefWyqjkCiy4r4Ol
NATRa5THIUkDOY10lzWBb1MnHpcBxDpDJ2m1vuclbHrsQOoN4ppsJsQdZwypJFhK
6hwwr/0IRw4nDjBamZJ+3/Pm87yknNP6bJeT4WyqU+cP38dMU5uDof2kWudFsT4=
-----END CERTIFICATE REQUEST-----
";

#[test]
fn requests_are_checked() {
    let own = identity();
    let key = KeyPair::generate().unwrap();
    let reason = |pem: &str| csr::public_key(pem, &own).unwrap_err().reason();
    let accepted = |pem: &str| drop(csr::public_key(pem, &own).unwrap());
    accepted(&request(&[own.as_str()], &key));
    accepted(&request(&[], &key));
    accepted(&request(
        &[],
        &KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
    ));
    accepted(&request(
        &[],
        &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
    ));

    assert_eq!(reason("nonsense"), "malformed_csr");
    let foreign = "spiffe://cluster.local/ns/shop/sa/admin";
    assert_eq!(reason(&request(&[foreign], &key)), "csr_foreign_name");
    assert_eq!(
        reason(&request(&[own.as_str(), foreign], &key)),
        "csr_foreign_name"
    );
    let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    let dns = params.serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(reason(&dns), "csr_foreign_name");
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(reason(&ca), "csr_foreign_name");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(reason(&request(&[], &ed25519)), "csr_key");
    assert_eq!(reason(SHORT_RSA), "csr_key");

    // One byte of the signature is turned.
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let pem = request(&[own.as_str()], &key);
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = engine.decode(body).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        engine.encode(der)
    );
    assert_eq!(reason(&forged), "csr_signature");
}
