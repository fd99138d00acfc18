//! A soak: every kind of load at once for minutes, and the proxies must not grow.

mod growth;
mod mix;

use super::arm::Arm;
use super::load::Figure;
use super::report::{Machine, Report, Samples};
use super::world::{Furnishing, World};
use super::{Options, capability, evidence};
use crate::usage;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use growth::{Quantity, Series};
use mix::Mix;
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

/// How often the agents are looked at.
const EVERY: Duration = Duration::from_secs(10);
const MIB: f64 = 1024.0 * 1024.0;

/// What a soak gave.
#[derive(Clone, Debug)]
pub struct Soaked {
    /// All samples: a row's rounds are its samples.
    pub report: Report,
    /// A sentence for each thing that grew; empty when nothing did.
    pub grown: Vec<String>,
}

/// Loads the proxies of one contender for so many minutes: of Weft's, unless `options` choose another.
///
/// # Errors
/// When a load fails, or several contenders are chosen. That a proxy grew is no error.
pub fn soak(minutes: u32, options: &Options) -> Result<Soaked> {
    let mut options = options.clone();
    if options.contenders.is_empty() {
        options.contenders = vec!["weft".to_owned()];
    }
    let chosen = options.chosen_contenders()?;
    ensure!(
        chosen.len() == 1,
        "a soak is of one contender, not of {}",
        chosen.len()
    );
    let peer = options.peer.as_ref();
    let machine = Machine::read(capability::versions(peer)?)?;
    eprintln!("bench: starting the nodes, the mesh and the servers");
    let world = World::build(&chosen, peer, Furnishing::default())?;
    let [arm] = &world.arms[..] else {
        bail!("{} arms", world.arms.len());
    };
    evidence::check(&world, arm)?;
    let length = Duration::from_secs(u64::from(minutes) * 60);
    let mix = Mix::new(length);
    let mut watch = Watch::new(arm);
    thread::scope(|scope| {
        let mix = &mix;
        let loads: Vec<_> = mix
            .parts()
            .map(|part| scope.spawn(move || mix.keep_up(part, arm)))
            .collect();
        let watched = watch.run(&world, mix, length);
        mix.stop();
        let joined = loads.into_iter().map(|load| {
            let ended = load.join();
            ended.unwrap_or_else(|_| Err(anyhow!("the thread of a load panicked")))
        });
        // All of them end; the first failure is the one that is told.
        let failures: Vec<_> = joined.filter_map(Result::err).collect();
        failures.into_iter().next().map_or(watched, Err)
    })?;
    watch.finish(machine)
}

/// What is watched, and what was seen.
struct Watch {
    contender: String,
    pids: Vec<u32>,
    /// Two for each process: its memory and its descriptors.
    series: Vec<Series>,
    samples: Samples,
    taken: u32,
}

impl Watch {
    fn new(arm: &Arm) -> Self {
        let series = arm.proxies.iter().flat_map(|proxy| {
            let side = arm.side(proxy);
            [Quantity::Memory, Quantity::Descriptors].map(|quantity| Series {
                name: format!("{quantity}-{side}"),
                quantity,
                values: Vec::new(),
            })
        });
        Self {
            contender: arm.contender.to_string(),
            series: series.collect(),
            pids: arm.proxies.iter().map(|proxy| proxy.pid).collect(),
            samples: Samples::default(),
            taken: 0,
        }
    }

    /// Samples until the time is up or a load has ended before.
    fn run(&mut self, world: &World, mix: &Mix, length: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let due = EVERY * (self.taken + 1);
            if due > length {
                return Ok(());
            }
            while start.elapsed() < due {
                if mix.is_over() {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(50));
            }
            self.sample(mix, due)?;
            self.empty_logs(world)?;
        }
    }

    fn sample(&mut self, mix: &Mix, at: Duration) -> Result<()> {
        let mut told = Vec::new();
        for (series, pid) in self.series.chunks_mut(2).zip(&self.pids) {
            let memory = usage::resident(*pid).context("a proxy ended")? as f64 / MIB;
            let descriptors = usage::descriptors(*pid)? as f64;
            for (series, value) in series.iter_mut().zip([memory, descriptors]) {
                let unit = series.quantity.unit();
                let name = &series.name;
                self.samples
                    .add(name, unit, &self.contender, self.taken, value)?;
                series.values.push(value);
                told.push(format!("{} {value:.1} {unit}", series.name));
            }
        }
        for Figure {
            metric,
            unit,
            value,
        } in mix.figures()
        {
            let contender = &self.contender;
            self.samples
                .add(&metric, &unit, contender, self.taken, value)?;
            told.push(format!("{metric} {value:.2} {unit}"));
        }
        eprintln!("bench: soak: {} s: {}", at.as_secs(), told.join(", "));
        self.taken += 1;
        Ok(())
    }

    /// The agents append to their access logs: a line for each connection would fill the disk.
    fn empty_logs(&self, world: &World) -> Result<()> {
        for log in world.access_logs() {
            File::create(&log).with_context(|| format!("cannot empty {}", log.display()))?;
        }
        Ok(())
    }

    fn finish(self, machine: Machine) -> Result<Soaked> {
        let grown: Vec<String> = self.series.iter().filter_map(Series::growth).collect();
        let mut notes = vec![
            format!(
                "One sample every {} s; a row's rounds are its samples. All loads ran at once, all the time; \
                 a load's figures are those of its last complete run, the four slow readers' added up.",
                EVERY.as_secs()
            ),
            growth::rule(),
        ];
        notes.push(match &grown[..] {
            [] => format!("Nothing of {} has grown.", self.contender),
            grown => format!("Growth: {}", grown.join("; ")),
        });
        Ok(Soaked {
            report: self.samples.report(&[], machine, notes),
            grown,
        })
    }
}
