//! Mutual TLS between workloads: TLS 1.3 only, ALPN `h2`, no SNI, no resumption (wire.md, HBONE).
//!
//! A stream that leaves this module has a peer whose certificate chains to the trust bundle and
//! names exactly one SPIFFE ID: [`client`] has checked that it is one of those expected, [`server`]
//! that its trust domain is accepted.

mod config;
mod handshake;
#[cfg(feature = "sabotage")]
mod sabotage;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

pub use session::{CONTENT, HEADER, Opened, Session, SessionError, TRAILER};

use mesh_common::identity::SpiffeId;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::SystemTime;
use thiserror::Error;

use crate::socket::Socket;
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

/// An authenticated connection and the identity its peer proved.
#[derive(Debug)]
pub struct Authenticated {
    /// The connection.
    pub socket: Socket,
    /// The keys of its records.
    pub session: Session,
    /// Application data that came with the end of the handshake.
    pub early: Vec<u8>,
    /// Bytes that were read and are not opened yet.
    pub unread: Vec<u8>,
    /// The peer's identity.
    pub peer: SpiffeId,
    /// The end of the peer's certificate.
    pub until: SystemTime,
    /// The named group of the key exchange, such as `X25519MLKEM768`.
    pub group: &'static str,
}

/// Authenticates as `svid` towards a server that must prove one of the `expected` identities.
///
/// # Errors
/// [`PeerError`], naming what failed.
pub async fn client(
    svid: &Svid,
    expected: Arc<[SpiffeId]>,
    socket: Socket,
) -> Result<Authenticated, PeerError> {
    let config = config::client(svid, expected)?;
    // Only used for SNI, which is off: identities are SPIFFE IDs, not names.
    let name = ServerName::IpAddress(socket.get().peer_addr()?.ip().into());
    handshake::client(Arc::new(config), name, socket).await
}

/// Authenticates as `svid` towards a client that must prove an identity of an accepted trust domain.
///
/// # Errors
/// [`PeerError`], naming what failed.
pub async fn server(svid: &Svid, socket: Socket) -> Result<Authenticated, PeerError> {
    handshake::server(Arc::new(config::server(svid)?), socket).await
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
