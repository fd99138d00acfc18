//! Every kind of load at once, each by itself run again and again until the time is up.

use crate::bench::arm::Arm;
use crate::bench::drive;
use crate::bench::load::Figure;
use anyhow::{Context as _, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The length of one run, seconds: each opens its connections anew.
const RUN: u32 = 10;

/// The loads. Four readers are slow: what they do not take must not pile up in an agent.
const PARTS: &[Part] = &[
    Part::Bulk,
    Part::RoundTrips,
    Part::Http,
    Part::Connect,
    Part::SlowReader,
    Part::SlowReader,
    Part::SlowReader,
    Part::SlowReader,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bulk,
    RoundTrips,
    Http,
    Connect,
    SlowReader,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk-8",
            Self::RoundTrips => "rtt-64b-64",
            Self::Http => "http-64",
            Self::Connect => "connect",
            Self::SlowReader => "slow-readers",
        }
    }

    /// Runs it once.
    fn run(self, arm: &Arm) -> Result<Vec<Figure>> {
        let figure = |what: &str, unit: &str, value| Figure {
            metric: format!("{}{what}", self.name()),
            unit: unit.to_owned(),
            value,
        };
        Ok(match self {
            Self::Bulk => {
                let bulk = drive::bulk(arm, 8, RUN)?;
                let rate = bulk.bytes as f64 * 8.0 / 1e9 / bulk.seconds;
                vec![figure("", "Gb/s", rate)]
            }
            Self::RoundTrips => {
                let trips = drive::round_trips(arm, 64, 64, RUN)?;
                let rate = trips.round_trips as f64 / trips.seconds;
                vec![
                    figure("", "round trips/s", rate),
                    figure("-p50", "µs", trips.p50_us),
                    figure("-p99", "µs", trips.p99_us),
                ]
            }
            Self::Http => vec![figure("", "requests/s", drive::http(arm, 64, RUN)?)],
            Self::Connect => {
                let made = drive::connections(arm, 16, RUN)?;
                let rate = made.connections as f64 / made.seconds;
                vec![figure("", "connections/s", rate)]
            }
            Self::SlowReader => {
                let rate = drive::slow_reader(arm, RUN)? / 1e3 / f64::from(RUN);
                vec![figure("", "kB/s", rate)]
            }
        })
    }
}

/// The loads and what the last run of each gave.
pub(super) struct Mix {
    end: Instant,
    over: AtomicBool,
    last: Vec<Mutex<Vec<Figure>>>,
}

impl Mix {
    /// They run for so long from now on.
    pub(super) fn new(length: Duration) -> Self {
        Self {
            end: Instant::now() + length,
            over: AtomicBool::new(false),
            last: PARTS.iter().map(|_| Mutex::default()).collect(),
        }
    }

    /// The numbers of the loads.
    pub(super) fn parts(&self) -> std::ops::Range<usize> {
        0..PARTS.len()
    }

    /// Runs one load until the time is up or another one has failed.
    pub(super) fn keep_up(&self, number: usize, arm: &Arm) -> Result<()> {
        let part = PARTS[number];
        while !self.is_over() && Instant::now() < self.end {
            let run = part.run(arm).inspect_err(|_| self.stop());
            let figures = run.with_context(|| format!("{} of the soak", part.name()))?;
            *self.last[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = figures;
        }
        Ok(())
    }

    /// Lets no load begin another run.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// True once it was stopped.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// What the last runs gave, rates of one name added up; nothing of a load that has not ended yet.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let mut all: Vec<Figure> = Vec::new();
        for last in &self.last {
            for figure in &*last.lock().unwrap_or_else(PoisonError::into_inner) {
                match all.iter_mut().find(|known| known.metric == figure.metric) {
                    Some(known) => known.value += figure.value,
                    None => all.push(figure.clone()),
                }
            }
        }
        all
    }
}
