//! Peer verification: the chain by webpki, then the SPIFFE ID (SPIFFE X.509-SVID, section 2).

use mesh_common::identity::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::state::uris;

/// The one SPIFFE ID a leaf certificate names.
pub(super) fn spiffe_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|e| format!("certificate is malformed: {e}"))?;
    match uris(&parsed)?.as_slice() {
        [uri] => uri.parse().map_err(|e| format!("URI SAN {uri:?}: {e}")),
        [] => Err("it has no URI SAN".into()),
        [_, _, ..] => Err("it has more than one URI SAN".into()),
    }
}

/// The end of a leaf certificate.
pub(super) fn not_after(leaf: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|e| format!("certificate is malformed: {e}"))?;
    let seconds = parsed.validity().not_after.timestamp();
    // A date before 1970 is past in any case.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn mismatch(why: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(
        std::io::Error::other(why),
    ))))
}

/// Accepts a server whose SPIFFE ID is one of those expected.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    expected: Arc<[SpiffeId]>,
}

impl ExpectedServer {
    pub(super) fn new(
        provider: Arc<CryptoProvider>,
        roots: Arc<RootCertStore>,
        expected: Arc<[SpiffeId]>,
    ) -> Self {
        Self {
            provider,
            roots,
            expected,
        }
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let presented = spiffe_id(end_entity).map_err(mismatch)?;
        if self.expected.contains(&presented) {
            return Ok(ServerCertVerified::assertion());
        }
        let expected: Vec<_> = self.expected.iter().map(ToString::to_string).collect();
        Err(mismatch(format!(
            "the server proved {presented}, expected {}",
            expected.join(" or ")
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Accepts a client of the trust domain whose chain leads to the bundle.
#[derive(Debug)]
pub(super) struct TrustedClient {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
}

impl TrustedClient {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, trust_domain: TrustDomain) -> Self {
        Self {
            chain,
            trust_domain,
        }
    }
}

impl ClientCertVerifier for TrustedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Names of roots tell a stranger which CA to imitate and help no peer that has one SVID.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let presented = spiffe_id(end_entity).map_err(mismatch)?;
        if presented.trust_domain() == &self.trust_domain {
            return Ok(verified);
        }
        Err(mismatch(format!(
            "{presented} is not of trust domain {}",
            self.trust_domain
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
