//! One request to the certificate authority: a fresh key, a signing request, a checked answer.

use mesh_common::identity::SpiffeId;
use mesh_common::proto::auth::IstioCertificateRequest;
use mesh_common::proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, Semaphore};
use tonic::transport::Channel;

use super::certificates::CertificateError;
use super::controller::{Controller, ControllerError};
use super::svid::Svid;

/// Asked for; the controller may give less.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way at a time, so that a node that starts with many pods is a queue and not a storm.
const AT_A_TIME: usize = 16;

/// The certificate authority, over one connection that is made anew after a failure.
#[derive(Debug)]
pub(super) struct Authority {
    controller: Controller,
    channel: Mutex<Option<Channel>>,
    turns: Semaphore,
}

impl Authority {
    pub(super) fn new(controller: Controller) -> Self {
        Self {
            controller,
            channel: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
        }
    }

    /// Obtains an SVID for `identity` with a key that never leaves this process.
    pub(super) async fn issue(&self, identity: &SpiffeId) -> Result<Svid, CertificateError> {
        let _turn = self.turns.acquire().await;
        let local = |e: rcgen::Error| CertificateError::Request(identity.clone(), e.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(local)?;
        let csr = signing_request(identity, &key).map_err(local)?;
        let chain = self
            .sign(identity, csr)
            .await
            .map_err(|e| CertificateError::Controller(identity.clone(), e))?;
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let public = key.subject_public_key_info();
        Svid::from_chain(identity, &public, private, &chain, SystemTime::now())
            .map_err(|e| CertificateError::Answer(identity.clone(), e))
    }

    async fn sign(&self, identity: &SpiffeId, csr: String) -> Result<Vec<String>, ControllerError> {
        let mut client = IstioCertificateServiceClient::new(self.channel().await?);
        let mut request = self.controller.request(message(identity, csr)).await?;
        request.set_timeout(ANSWER_WITHIN);
        match client.create_certificate(request).await {
            Ok(response) => Ok(response.into_inner().cert_chain),
            Err(status) => {
                // The next attempt connects anew, by the CA file as it is then.
                *self.channel.lock().await = None;
                Err(self.controller.failed(&status))
            }
        }
    }

    async fn channel(&self) -> Result<Channel, ControllerError> {
        let mut channel = self.channel.lock().await;
        if let Some(open) = &*channel {
            return Ok(open.clone());
        }
        let opened = self.controller.connect().await?;
        *channel = Some(opened.clone());
        Ok(opened)
    }
}

fn signing_request(identity: &SpiffeId, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
    params.serialize_request(key)?.pem()
}

fn message(identity: &SpiffeId, csr: String) -> IstioCertificateRequest {
    let asked = Value {
        kind: Some(Kind::StringValue(identity.to_string())),
    };
    IstioCertificateRequest {
        csr,
        validity_duration: i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX),
        metadata: Some(Struct {
            fields: [("ImpersonatedIdentity".to_owned(), asked)].into(),
        }),
    }
}
