//! HBONE: HTTP/2 CONNECT streams inside mutual TLS (wire.md).
//!
//! [`Pool`] hands out streams to a destination and dials tunnels as needed; [`serve`] accepts them.
//! Both ends probe a silent peer with PING and end a tunnel with GOAWAY.

mod client;
mod keepalive;
mod link;
mod open;
mod outgoing;
mod pool;
mod request;
mod server;
mod slot;
mod stream;
#[cfg(test)]
mod tests;
mod trace;
mod turns;

pub use client::{OpenError, Tunnel};
pub use link::TunnelError;
pub use open::{OpenTunnel, OpenTunnels};
pub use pool::{Key, Lease, Pool};
pub use request::{BadRequest, Baggage, ConnectRequest, Fields};
pub use server::{Incoming, serve};
pub use stream::{Reading, Revoker, Stream, StreamError};
pub use trace::TraceParent;

/// The port on which every enrolled pod terminates HBONE.
pub const PORT: u16 = 15008;

/// Receive window of one stream, bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// Receive window of one tunnel, bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest DATA frame accepted, bytes.
const FRAME: u32 = 1 << 20;
/// Streams a peer may have open on one tunnel.
const STREAMS_ACCEPTED: u32 = 200;
/// Streams opened on one tunnel before another is dialled.
const STREAMS_OPENED: usize = 200;
/// Request header list accepted, bytes.
const HEADER_LIST: u32 = 16 << 10;

/// What a peer is answered besides 200 (wire.md, HBONE).
pub mod status {
    /// The request is malformed.
    pub const BAD_REQUEST: u16 = 400;
    /// Policy denies it.
    pub const UNAUTHORIZED: u16 = 401;
    /// The application cannot be reached.
    pub const UNAVAILABLE: u16 = 503;
}
