//! Breaks the tunnel on purpose so that the lab can show its checks would notice. Never shipped.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::Secured;

/// The server says, in clear, that its side of the handshake is over, so that no record of the
/// handshake is still on its way when both sides drop TLS.
const READY: u8 = b'!';

/// Whether this agent was told to send in clear after the handshake.
fn plaintext() -> bool {
    std::env::var_os("WEFT_SABOTAGE").is_some_and(|mode| mode == "plaintext")
}

/// The client's side of a tunnel.
pub(super) async fn client(tls: client::TlsStream<TcpStream>) -> io::Result<Box<dyn Secured>> {
    if !plaintext() {
        return Ok(Box::new(tls));
    }
    let mut tcp = tls.into_inner().0;
    match tcp.read_u8().await? {
        READY => Ok(Box::new(tcp)),
        _ => Err(io::Error::other(
            "sabotage: the peer is not sabotaged in the same way",
        )),
    }
}

/// The server's side of a tunnel.
pub(super) async fn server(tls: server::TlsStream<TcpStream>) -> io::Result<Box<dyn Secured>> {
    if !plaintext() {
        return Ok(Box::new(tls));
    }
    let mut tcp = tls.into_inner().0;
    tcp.write_u8(READY).await?;
    Ok(Box::new(tcp))
}
