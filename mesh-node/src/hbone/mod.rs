//! HBONE: HTTP/2 CONNECT streams inside mutual TLS (wire.md).
//!
//! [`Pool`] hands out streams to a destination and dials tunnels as needed; [`serve`] accepts them.
//! Both ends probe a silent peer with PING and end a tunnel with GOAWAY.

mod client;
mod keepalive;
mod pool;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod trace;

pub use client::{OpenError, Tunnel};
pub use pool::{Key, Lease, Pool};
pub use request::{BadRequest, Baggage, ConnectRequest};
pub use server::{Incoming, serve};
pub use trace::TraceParent;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

/// The port on which every enrolled pod terminates HBONE.
pub const PORT: u16 = 15008;

/// Receive window of one stream, bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// Receive window of one tunnel, bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest DATA frame accepted, bytes.
const FRAME: u32 = 1 << 20;
/// Bytes that one stream may hold in the send queue.
const SEND_BUFFER: usize = 512 << 10;
/// Streams a peer may have open on one tunnel.
const STREAMS_ACCEPTED: u32 = 200;
/// Streams opened on one tunnel before another is dialled.
const STREAMS_OPENED: usize = 100;
/// Request header list accepted, bytes.
const HEADER_LIST: u32 = 16 << 10;

/// One CONNECT stream after its 200.
#[derive(Debug)]
pub struct Stream {
    /// Towards the peer.
    pub send: SendStream<Bytes>,
    /// From the peer.
    pub recv: RecvStream,
}
