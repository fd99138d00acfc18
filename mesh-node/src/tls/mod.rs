//! Mutual TLS between workloads: TLS 1.3 only, ALPN `h2`, no SNI, no resumption (wire.md, HBONE).
//!
//! A stream that leaves this module has a peer whose certificate chains to the trust bundle and
//! names exactly one SPIFFE ID: [`client`] has checked that it is one of those expected, [`server`]
//! that its trust domain is accepted.

mod config;
#[cfg(feature = "sabotage")]
mod sabotage;
mod verify;

use mesh_common::identity::SpiffeId;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::SystemTime;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::state::Svid;

/// The certificate of a peer could not be accepted.
#[derive(Debug, Error)]
pub enum PeerError {
    /// Our own certificate or trust bundle is unusable.
    #[error("the SVID of {0} is unusable: {1}")]
    Local(SpiffeId, String),
    /// The handshake failed; says which side objected.
    #[error("TLS handshake with the peer failed: {0}")]
    Handshake(#[from] std::io::Error),
    /// The peer speaks TLS but not HTTP/2.
    #[error("the peer did not select ALPN h2")]
    Alpn,
    /// The peer's certificate names no single SPIFFE ID.
    #[error("the peer's certificate is not an SVID: {0}")]
    NotAnSvid(String),
}

/// A byte stream inside mutual TLS.
pub trait Secured: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Secured for T {}

/// An authenticated stream and the identity its peer proved.
pub struct Authenticated {
    /// The stream, ready for HTTP/2.
    pub stream: Box<dyn Secured>,
    /// The peer's identity.
    pub peer: SpiffeId,
    /// The end of the peer's certificate.
    pub until: SystemTime,
}

impl std::fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticated")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Authenticates as `svid` towards a server that must prove one of the `expected` identities.
///
/// # Errors
/// [`PeerError`], naming what failed.
pub async fn client(
    svid: &Svid,
    expected: Arc<[SpiffeId]>,
    tcp: TcpStream,
) -> Result<Authenticated, PeerError> {
    let config = config::client(svid, expected)?;
    // Only used for SNI, which is off: identities are SPIFFE IDs, not names.
    let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    let session = tls.get_ref().1;
    let (peer, until) = proven_peer(session.alpn_protocol(), session.peer_certificates())?;
    #[cfg(not(feature = "sabotage"))]
    let stream = Box::new(tls);
    #[cfg(feature = "sabotage")]
    let stream = sabotage::client(tls).await?;
    Ok(Authenticated {
        stream,
        peer,
        until,
    })
}

/// Authenticates as `svid` towards a client that must prove an identity of an accepted trust domain.
///
/// # Errors
/// [`PeerError`], naming what failed.
pub async fn server(svid: &Svid, tcp: TcpStream) -> Result<Authenticated, PeerError> {
    let config = config::server(svid)?;
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config))
        .accept(tcp)
        .await?;
    let session = tls.get_ref().1;
    let (peer, until) = proven_peer(session.alpn_protocol(), session.peer_certificates())?;
    #[cfg(not(feature = "sabotage"))]
    let stream = Box::new(tls);
    #[cfg(feature = "sabotage")]
    let stream = sabotage::server(tls).await?;
    Ok(Authenticated {
        stream,
        peer,
        until,
    })
}

fn proven_peer(
    alpn: Option<&[u8]>,
    certificates: Option<&[CertificateDer<'_>]>,
) -> Result<(SpiffeId, SystemTime), PeerError> {
    if alpn != Some(config::ALPN) {
        return Err(PeerError::Alpn);
    }
    let leaf = certificates
        .and_then(<[_]>::first)
        .ok_or_else(|| PeerError::NotAnSvid("no certificate was sent".into()))?;
    let peer = verify::spiffe_id(leaf).map_err(PeerError::NotAnSvid)?;
    let until = verify::not_after(leaf).map_err(PeerError::NotAnSvid)?;
    Ok((peer, until))
}
