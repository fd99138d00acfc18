//! TLS for the gRPC port. The serving certificate is renewed at half of its life and swapped while
//! connections go on; a handshake that dawdles holds up nobody else.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use crate::ca::{Authority, IssueError};
use crate::metrics::Metrics;

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(60);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// More than this many wait in the kernel's queue.
const HANDSHAKES: usize = 256;

/// The serving certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The authority would not sign it.
    #[error("the serving certificate: {0}; check --server-name and --ca-dir")]
    Issue(#[from] IssueError),
    /// The key or the TLS set-up failed.
    #[error("the serving certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate that is presented at the moment.
pub struct Serving {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.current.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

impl Serving {
    /// Issues the first certificate.
    pub fn new(authority: Arc<Authority>, names: Vec<String>) -> Result<Arc<Self>, ServingError> {
        let current = RwLock::new(Arc::new(issue(&authority, &names)?));
        Ok(Arc::new(Self {
            authority,
            names,
            current,
        }))
    }

    /// Replaces the certificate by a new one.
    pub fn renew(&self) -> Result<(), ServingError> {
        let next = Arc::new(issue(&self.authority, &self.names)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Renews in time, and when another signer signs, until `stop`.
    pub async fn keep_fresh(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = LIFETIME / 2;
        let mut signer = self.authority.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // The authority lives as long as this.
                _ = signer.changed() => {}
            }
            wait = match self.renew() {
                Ok(()) => LIFETIME / 2,
                Err(e) => {
                    tracing::error!("{e}; the old one stays in use");
                    RETRY
                }
            };
        }
    }

    /// The TLS settings of the gRPC port.
    pub fn config(self: &Arc<Self>) -> Result<ServerConfig, ServingError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn issue(authority: &Authority, names: &[String]) -> Result<CertifiedKey, ServingError> {
    let key = KeyPair::generate().map_err(IssueError::from)?;
    let chain = authority.current().serving_chain(names, &key, LIFETIME)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(
        chain,
        aws_lc_rs::sign::any_supported_type(&key)?,
    ))
}

/// Accepts until `stop`; the handshakes that succeed come out of the channel.
pub fn accept(
    listener: TcpListener,
    config: ServerConfig,
    metrics: Metrics,
    stop: CancellationToken,
) -> mpsc::Receiver<std::io::Result<Connection>> {
    let (accepted, streams) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        // Such as too many open files: it passes, and must not spin.
                        tracing::warn!(error = %e, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (acceptor, accepted, metrics) =
                (acceptor.clone(), accepted.clone(), metrics.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let connection = Connection::new(stream, peer);
                        let _ = accepted.send(Ok(connection)).await;
                    }
                    Ok(Err(e)) => {
                        metrics.failed_handshake("error");
                        tracing::debug!(%peer, error = %e, "TLS handshake failed");
                    }
                    Err(_) => {
                        metrics.failed_handshake("timeout");
                        tracing::debug!(%peer, "TLS handshake timed out");
                    }
                }
                drop(slot);
            });
        }
    });
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Place, Signer};

    fn authority() -> Arc<Authority> {
        let now = std::time::SystemTime::now();
        let place = Place::Directory("ca".into());
        let signer = Signer::load(&Signer::create(now).unwrap(), &place, now).unwrap();
        Arc::new(Authority::new(signer))
    }

    #[test]
    fn a_renewal_swaps_the_certificate_under_the_same_configuration() {
        let authority = authority();
        let serving = Serving::new(authority, vec!["localhost".into(), "::1".into()]).unwrap();
        let config = serving.config().unwrap();
        let presented = || serving.current.read().unwrap().cert[0].clone();
        let before = presented();
        serving.renew().unwrap();
        assert_ne!(before, presented());
        assert_eq!(config.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let authority = authority();
        let error = Serving::new(authority, vec!["h\u{f6}st".into()]).unwrap_err();
        assert!(error.to_string().contains("--server-name"), "{error}");
    }
}
