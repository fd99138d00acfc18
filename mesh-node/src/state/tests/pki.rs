//! A certificate authority for the tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::time::{Duration, SystemTime};

pub(super) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: String,
}

/// A validity around now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) since: Duration,
    pub(super) left: Duration,
}

pub(super) const DAY: Validity = Validity {
    since: Duration::from_secs(60),
    left: Duration::from_secs(86400),
};

impl Validity {
    pub(super) fn seconds(since: u64, left: u64) -> Self {
        Self {
            since: Duration::from_secs(since),
            left: Duration::from_secs(left),
        }
    }

    fn apply(self, params: &mut CertificateParams) {
        let now = SystemTime::now();
        params.not_before = (now - self.since).into();
        params.not_after = (now + self.left).into();
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Pki {
    pub(super) fn root(name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name));
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(super) fn intermediate(&self, name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Certificate and key of a server at 127.0.0.1, in PEM.
    pub(super) fn server(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    /// Signs what a request asks for.
    pub(super) fn sign(&self, csr: &str, validity: Validity) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        validity.apply(&mut request.params);
        request.signed_by(&self.issuer).unwrap().pem()
    }
}
