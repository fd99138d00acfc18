//! What is asked of a certificate request.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};

use super::identity;
use crate::ca::csr;

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
