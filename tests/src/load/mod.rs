//! The load generator of the benchmarks: bulk transfer, round trips, new connections and idle
//! connections over plain TCP, for a client and a server that may be anywhere.
//!
//! Only what arrived counts: bytes are counted by whoever receives them, round trips and connections
//! when their answer is complete. A short warm-up is left out of every figure, and the measured
//! interval is the one that the counts were taken over. A connection that fails fails the run.

mod bulk;
mod connect;
mod dial;
mod files;
mod header;
mod idle;
mod interval;
mod latency;
mod message;
mod outcome;
mod poll;
mod rtt;
mod runs;
mod serve;
mod session;
mod stream;
mod transfer;

pub use bulk::{Direction, bulk};
pub use connect::connect;
pub use idle::Idle;
pub use outcome::{Connections, Open, RoundTrips, Throughput};
pub use rtt::rtt;
pub use serve::Server;

use std::time::Duration;

/// How long a load runs before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(300);

/// How long a peer may keep silent, or take nothing, before that is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// The size of one bulk write or read, in bytes.
const CHUNK: usize = 128 * 1024;

/// The largest message of a round trip, in bytes.
pub const MAX_MESSAGE: u32 = 1024 * 1024;

/// The one byte that the server answers when it is asked for no more.
const ANSWER: u8 = b'!';
