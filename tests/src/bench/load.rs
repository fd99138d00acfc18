//! The loads: what each does, and the figures that one run of it gives.

use super::arm::Arm;
use super::disturbance::Disturbance;
use super::{cpu, drive};
use anyhow::{Result, ensure};
use std::fmt;
use std::path::Path;
use std::time::Duration;

const GIB: f64 = (1_u64 << 30) as f64;
/// Short connections that are under way at a time.
const CONCURRENCY: u32 = 16;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// This many streams, each as fast as it can.
    Bulk(u32),
    /// Messages of `size` bytes there and back, one at a time on each connection.
    RoundTrips {
        /// Bytes in one direction.
        size: u32,
        /// Connections at a time.
        connections: u32,
    },
    /// HTTP requests on this many connections that stay open.
    Http(u32),
    /// Connections that are opened, used once and closed.
    Connect,
}

/// Every load, in the order in which a round runs them.
pub(super) const LOADS: &[Load] = &[
    Load::Bulk(1),
    Load::Bulk(8),
    Load::Bulk(64),
    Load::RoundTrips {
        size: 64,
        connections: 1,
    },
    Load::RoundTrips {
        size: 64,
        connections: 64,
    },
    Load::RoundTrips {
        size: 1024,
        connections: 1,
    },
    Load::RoundTrips {
        size: 1024,
        connections: 64,
    },
    Load::Http(64),
    Load::Connect,
];

/// One measured value.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// What was measured: the load's name and what of it.
    pub(super) metric: String,
    /// Its unit.
    pub(super) unit: String,
    /// Its value.
    pub(super) value: f64,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bulk(streams) => write!(f, "bulk-{streams}"),
            Self::RoundTrips { size, connections } => write!(f, "rtt-{size}b-{connections}"),
            Self::Http(connections) => write!(f, "http-{connections}"),
            Self::Connect => f.write_str("connect"),
        }
    }
}

impl Load {
    /// Runs it once in this arm.
    pub(super) fn run(
        &self,
        arm: &Arm,
        lab: &Path,
        seconds: u32,
        disturbance: &mut Disturbance,
    ) -> Result<Vec<Figure>> {
        let mut figures = Figures {
            load: *self,
            list: Vec::new(),
        };
        let cgroups = arm.cgroups();
        let length = Duration::from_secs(seconds.into());
        // How much work was done a second; CPU time is stated for one unit of it.
        let ((rate, per), usage) = cpu::during(&cgroups, lab, length, || {
            Ok(match *self {
                Self::Bulk(streams) => {
                    let bulk = drive::bulk(arm, streams, seconds)?;
                    let rate = bulk.bytes as f64 / bulk.seconds;
                    figures.push("", "Gb/s", rate * 8.0 / 1e9);
                    (rate / GIB, "s/GiB")
                }
                Self::RoundTrips { size, connections } => {
                    let trips = drive::round_trips(arm, size, connections, seconds)?;
                    figures.push("-p50", "µs", trips.p50_us);
                    figures.push("-p99", "µs", trips.p99_us);
                    figures.push("-p999", "µs", trips.p999_us);
                    let rate = trips.round_trips as f64 / trips.seconds;
                    (rate / 100_000.0, "s/100k round trips")
                }
                Self::Http(connections) => {
                    let rate = drive::http(arm, connections, seconds)?;
                    figures.push("", "requests/s", rate);
                    (rate / 100_000.0, "s/100k requests")
                }
                Self::Connect => {
                    let made = drive::connections(arm, CONCURRENCY, seconds)?;
                    let rate = made.connections as f64 / made.seconds;
                    figures.push("", "connections/s", rate);
                    (rate / 10_000.0, "s/10k connections")
                }
            })
        })?;
        ensure!(
            rate > 0.0,
            "{self} through {} carried nothing",
            arm.contender
        );
        disturbance.saw(usage.foreign, &format!("{self} through {}", arm.contender));
        if !cgroups.is_empty() {
            figures.push("-cpu-proxies", per, usage.proxies / rate);
            figures.push("-cpu-proxies-user", per, usage.proxies_user / rate);
        }
        figures.push("-cpu-machine", per, usage.machine / rate);
        Ok(figures.list)
    }
}

struct Figures {
    load: Load,
    list: Vec<Figure>,
}

impl Figures {
    fn push(&mut self, what: &str, unit: &str, value: f64) {
        self.list.push(Figure {
            metric: format!("{}{what}", self.load),
            unit: unit.to_owned(),
            value,
        });
    }
}
