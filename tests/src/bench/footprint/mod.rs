//! What a proxy costs while it carries nothing: memory, and the time to take pods in. Each figure is of
//! proxies that were started for it and have done nothing else.

mod connections;
mod dump;
mod enrolment;
mod memory;
mod workloads;

use super::contender::Contender;
use super::load::Figure;
use super::peer::PeerPath;
use super::report::Samples;
use super::rounds::tell;
use super::world::{Furnishing, World};
use anyhow::{Context as _, Result, bail};
use std::fmt;

/// One such cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Footprint {
    /// Memory with a few pods and no connection.
    Idle,
    /// Memory for each of this many open connections on which nothing is said.
    Connections(u32),
    /// Memory with this many workloads in the configuration.
    Workloads(usize),
    /// The time to take in this many pods, one after the other.
    Enrolment(usize),
}

/// All of them, in the order in which a round takes them.
pub(super) const FOOTPRINTS: &[Footprint] = &[
    Footprint::Idle,
    Footprint::Connections(1_000),
    Footprint::Connections(10_000),
    Footprint::Workloads(10_000),
    Footprint::Workloads(100_000),
    Footprint::Enrolment(100),
];

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("memory-idle"),
            Self::Connections(count) => write!(f, "memory-{count}-connections"),
            Self::Workloads(count) => write!(f, "memory-{count}-workloads"),
            Self::Enrolment(count) => write!(f, "enrolment-{count}-pods"),
        }
    }
}

/// Measures each for every contender, as often as there are rounds.
pub(super) fn run(
    footprints: &[Footprint],
    contenders: &[Contender],
    peer: Option<&PeerPath>,
    rounds: u32,
    samples: &mut Samples,
) -> Result<()> {
    for round in 0..rounds {
        for footprint in footprints {
            for turn in 0..contenders.len() {
                let contender = &contenders[(round as usize + turn) % contenders.len()];
                let figures = footprint.measure(contender, peer);
                let figures = figures.with_context(|| format!("{footprint} of {contender}"))?;
                tell(round, rounds, contender, &figures);
                for Figure {
                    metric,
                    unit,
                    value,
                } in figures
                {
                    samples.add(&metric, &unit, &contender.to_string(), round, value)?;
                }
            }
        }
    }
    Ok(())
}

impl Footprint {
    fn measure(&self, contender: &Contender, peer: Option<&PeerPath>) -> Result<Vec<Figure>> {
        let furnishing = match *self {
            Self::Idle | Self::Connections(_) => Furnishing::default(),
            Self::Workloads(crowd) => Furnishing { crowd, waiting: 0 },
            Self::Enrolment(waiting) => Furnishing { crowd: 0, waiting },
        };
        if let Self::Connections(count) = *self {
            memory::allow_sockets(count)?;
        }
        let world = World::build(std::slice::from_ref(contender), peer, furnishing)?;
        let [arm] = &world.arms[..] else {
            bail!("{} arms", world.arms.len());
        };
        let figure = |metric, unit: &str, value| Figure {
            metric,
            unit: unit.to_owned(),
            value,
        };
        Ok(match *self {
            Self::Idle => {
                let used = memory::settled(arm)?;
                vec![figure(self.to_string(), "MiB", mean(&used) / memory::MIB)]
            }
            Self::Connections(count) => {
                let each = connections::measure(arm, count)?;
                let mut figures = vec![figure(self.to_string(), "B/connection", mean(&each))];
                for (proxy, value) in arm.proxies.iter().zip(each) {
                    let metric = format!("{self}-{}", arm.side(proxy));
                    figures.push(figure(metric, "B/connection", value));
                }
                figures
            }
            Self::Workloads(count) => {
                let used = workloads::measure(&world, arm, count)?;
                vec![figure(self.to_string(), "MiB", mean(&used) / memory::MIB)]
            }
            Self::Enrolment(_) => {
                let took = enrolment::measure(&world, arm)?;
                vec![figure(self.to_string(), "ms", took.as_secs_f64() * 1e3)]
            }
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
