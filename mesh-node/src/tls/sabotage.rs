//! Breaks the tunnel on purpose so that the lab can show its checks would notice. Never shipped.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Secured;

/// Whether this agent was told to send in clear after the handshake.
pub(super) fn plaintext() -> bool {
    std::env::var_os("WEFT_SABOTAGE").is_some_and(|mode| mode == "plaintext")
}

/// The server says, in clear, that its side of the handshake is over, so that no record of the
/// handshake is still on its way when both sides drop TLS.
const READY: u8 = b'!';

pub(super) async fn strip_client(mut tcp: TcpStream) -> io::Result<Box<dyn Secured>> {
    match tcp.read_u8().await? {
        READY => Ok(Box::new(tcp)),
        _ => Err(io::Error::other(
            "sabotage: the peer is not sabotaged in the same way",
        )),
    }
}

pub(super) async fn strip_server(mut tcp: TcpStream) -> io::Result<Box<dyn Secured>> {
    tcp.write_u8(READY).await?;
    Ok(Box::new(tcp))
}
