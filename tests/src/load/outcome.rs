//! What each load measured: the one JSON object that `lab-load` prints.

use serde::{Deserialize, Serialize};

/// A bulk transfer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Throughput {
    /// Bytes that the receiver took during the interval, all streams together.
    pub bytes: u64,
    /// The length of the interval.
    pub seconds: f64,
}

/// Messages there and back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RoundTrips {
    /// Round trips that ended in the interval.
    pub round_trips: u64,
    /// The length of the interval.
    pub seconds: f64,
    /// The median time of a round trip, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 round trips took at most so many microseconds.
    pub p99_us: f64,
    /// 999 of 1,000 round trips took at most so many microseconds.
    pub p999_us: f64,
}

/// New connections.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Connections {
    /// Connections that were opened, answered and closed, and whose close fell in the interval.
    pub connections: u64,
    /// The length of the interval.
    pub seconds: f64,
}

/// Connections that are held.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Open {
    /// How many are open, each answered once.
    pub open: usize,
}
