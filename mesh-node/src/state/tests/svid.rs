use super::pki::{DAY, Pki};
use crate::state::{Svid, SvidError};
use mesh_common::identity::SpiffeId;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::time::{Duration, SystemTime};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn csr(key: &KeyPair, uris: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn check(key: &KeyPair, chain: &[String]) -> Result<Svid, SvidError> {
    check_at(SystemTime::now(), key, chain)
}

fn check_at(now: SystemTime, key: &KeyPair, chain: &[String]) -> Result<Svid, SvidError> {
    let identity: SpiffeId = WEB.parse().unwrap();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Svid::from_chain(
        &identity,
        &key.subject_public_key_info(),
        private,
        chain,
        now,
    )
}

#[test]
fn intermediates_and_several_roots_are_told_apart() {
    let key = KeyPair::generate().unwrap();
    let (root, next) = (Pki::root("root"), Pki::root("next root"));
    let middle = root.intermediate("middle");
    let leaf = middle.sign(&csr(&key, &[WEB]), DAY);
    let (m, r, n) = (&middle.certificate, &root.certificate, &next.certificate);
    for chain in [
        vec![leaf.clone(), m.clone(), r.clone(), n.clone()],
        vec![leaf.clone(), m.clone(), format!("{r}{n}")],
        vec![format!("{leaf}{m}"), r.clone(), n.clone()],
    ] {
        let svid = check(&key, &chain).unwrap();
        assert_eq!((svid.chain.len(), svid.roots.len()), (2, 2));
        assert!(svid.is_valid_at(SystemTime::now()));
        assert!(!svid.is_valid_at(SystemTime::now() + Duration::from_secs(2 * 86400)));
        assert!(!format!("{svid:?}").contains("key"), "{svid:?}");
    }
    assert!(matches!(
        check(&key, &[leaf, r.clone()]),
        Err(SvidError::Chain(_))
    ));
}

#[test]
fn an_answer_for_someone_else_is_refused() {
    let (root, key) = (Pki::root("root"), KeyPair::generate().unwrap());
    let signed = |uris: &[&str]| {
        check(
            &key,
            &[root.sign(&csr(&key, uris), DAY), root.certificate.clone()],
        )
    };
    assert!(signed(&[WEB]).is_ok());
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    for (uris, found) in [
        (vec![], "nobody".to_owned()),
        (vec![other], other.to_owned()),
        (vec![WEB, other], format!("{WEB} and {other}")),
    ] {
        match signed(&uris) {
            Err(SvidError::Identity { found: named, .. }) => assert_eq!(named, found),
            unexpected => panic!("{uris:?}: {unexpected:?}"),
        }
    }
    let another_key = KeyPair::generate().unwrap();
    let leaf = root.sign(&csr(&another_key, &[WEB]), DAY);
    let chain = [leaf, root.certificate.clone()];
    assert!(matches!(check(&key, &chain), Err(SvidError::Key)));
}

#[test]
fn an_answer_that_is_not_valid_is_refused() {
    let (root, key) = (Pki::root("root"), KeyPair::generate().unwrap());
    let request = csr(&key, &[WEB]);
    let good = root.sign(&request, DAY);
    let (now, day) = (SystemTime::now(), Duration::from_secs(86400));
    for wrong in [now + 2 * day, now - day] {
        let chain = [good.clone(), root.certificate.clone()];
        assert!(matches!(
            check_at(wrong, &key, &chain),
            Err(SvidError::Chain(_))
        ));
    }
    let stranger = Pki::root("root");
    let chain = [good.clone(), stranger.certificate];
    assert!(matches!(check(&key, &chain), Err(SvidError::Chain(_))));
    assert!(matches!(check(&key, &[]), Err(SvidError::Incomplete(0))));
    assert!(matches!(
        check(&key, std::slice::from_ref(&good)),
        Err(SvidError::Incomplete(1))
    ));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let chain = [garbage.clone(), root.certificate.clone()];
    assert!(matches!(
        check(&key, &chain),
        Err(SvidError::Malformed(0, _))
    ));
    assert!(check(&key, &[good, garbage]).is_err());
}
