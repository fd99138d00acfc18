//! The rustls configurations for both ends of a tunnel.

use mesh_common::identity::SpiffeId;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, LazyLock};

use super::PeerError;
use super::verify::{ExpectedServer, TrustedClient};
use crate::state::Svid;

pub(super) const ALPN: &[u8] = b"h2";

/// aws-lc-rs; with the `prefer-post-quantum` feature its first key exchange is X25519MLKEM768.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

pub(super) fn client(svid: &Svid, expected: Arc<[SpiffeId]>) -> Result<ClientConfig, PeerError> {
    let local = |e: &dyn std::fmt::Display| PeerError::Local(svid.identity.clone(), e.to_string());
    let verifier = ExpectedServer::new(PROVIDER.clone(), roots(svid)?, expected);
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| local(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(svid.chain.clone(), svid.key.clone_key())
        .map_err(|e| local(&e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    // `Session` seals and opens the records.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn server(svid: &Svid) -> Result<ServerConfig, PeerError> {
    let local = |e: &dyn std::fmt::Display| PeerError::Local(svid.identity.clone(), e.to_string());
    let chain = WebPkiClientVerifier::builder_with_provider(roots(svid)?, PROVIDER.clone())
        .build()
        .map_err(|e| local(&e))?;
    let verifier = TrustedClient::new(chain, svid.identity.trust_domain().clone());
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| local(&e))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(svid.chain.clone(), svid.key.clone_key())
        .map_err(|e| local(&e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(config)
}

fn roots(svid: &Svid) -> Result<Arc<RootCertStore>, PeerError> {
    let mut store = RootCertStore::empty();
    for root in &svid.roots {
        store
            .add(root.clone())
            .map_err(|e| PeerError::Local(svid.identity.clone(), format!("trust bundle: {e}")))?;
    }
    Ok(Arc::new(store))
}
