//! HTTP/2 (RFC 9113) for HBONE tunnels: CONNECT streams on an authenticated connection, in both
//! roles. No I/O, no clock, no task: bytes go in and come out.
//!
//! [`Connection`] keeps the state of one connection; [`frame`] reads and writes frames, [`hpack`] reads
//! and writes header blocks. None trusts what it reads: every length and every value is checked, and
//! no input makes it panic or grow without bound.

#![forbid(unsafe_code)]

pub mod frame;
pub mod hpack;

mod connection;
mod flow;
mod head;

pub use connection::{Config, Connection, Event, StreamId};
pub use frame::{ConnectionError, ErrorCode};
pub use head::Head;
