//! The data plane's benchmark: the same loads through every contender, taking turns, many times over.
//!
//! Only one contender carries load at a time. A round runs each load once for every contender, one
//! right after the other, and each round begins with another contender, so that whatever disturbs the
//! machine disturbs all of them.

mod contender;
mod cpu;
mod drive;
mod evidence;
mod load;
mod memory;
mod outcome;
mod peer;
pub mod report;
mod samples;
mod web;
mod world;

pub use outcome::{Outcome, Ratio, Row};
pub use peer::PeerPath;

use anyhow::{Context as _, Result, ensure};
use contender::Contender;
use load::{Figure, LOADS, Load};
use samples::Samples;
use world::World;

const MIB: f64 = 1024.0 * 1024.0;

/// What to measure, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// A proxy to compare with.
    pub peer: Option<PeerPath>,
    /// How often every load runs for every contender.
    pub rounds: u32,
    /// How long each run is measured, seconds.
    pub seconds: u32,
    /// Measure only loads whose name begins so; all when empty.
    pub only: Vec<String>,
    /// Measure only these contenders; all when empty.
    pub contenders: Vec<String>,
}

impl Options {
    fn chosen_contenders(&self) -> Result<Vec<Contender>> {
        let all = Contender::all(self.peer.as_ref().map(|peer| &*peer.name));
        choose(&all, &self.contenders, |name, wanted| name == wanted)
    }

    fn chosen_loads(&self) -> Result<Vec<Load>> {
        choose(LOADS, &self.only, |name, wanted| name.starts_with(wanted))
    }
}

/// Those of `all` that are wanted, in their own order; a wish that nothing fulfils is an error.
fn choose<T: Clone + ToString>(
    all: &[T],
    wanted: &[String],
    fits: impl Fn(&str, &str) -> bool,
) -> Result<Vec<T>> {
    for wish in wanted {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        ensure!(
            names.iter().any(|name| fits(name, wish)),
            "there is no {wish}; there are {}",
            names.join(", ")
        );
    }
    let chosen = |item: &&T| {
        let name = item.to_string();
        wanted.is_empty() || wanted.iter().any(|wish| fits(&name, wish))
    };
    Ok(all.iter().filter(chosen).cloned().collect())
}

/// Builds the world, runs every round, and returns what was measured.
pub fn run(options: &Options) -> Result<Outcome> {
    let contenders = options.chosen_contenders()?;
    let loads = options.chosen_loads()?;
    eprintln!("bench: starting four nodes, the mesh and the servers");
    let world = World::build(&contenders, options.peer.as_ref())?;
    for arm in world.arms.iter().filter(|arm| !arm.proxies.is_empty()) {
        let pids: Vec<String> = arm
            .proxies
            .iter()
            .map(|proxy| proxy.pid.to_string())
            .collect();
        eprintln!("bench: {}: processes {}", arm.contender, pids.join(", "));
    }
    let mut samples = Samples::default();
    world.arms.iter().try_for_each(evidence::check)?;
    idle_memory(&world, &mut samples)?;
    for round in 0..options.rounds {
        for load in &loads {
            for turn in 0..world.arms.len() {
                let arm = &world.arms[(round as usize + turn) % world.arms.len()];
                let figures = load
                    .run(arm, &world.cgroup, options.seconds)
                    .with_context(|| format!("{load} through {}", arm.contender))?;
                if let Some(first) = figures.first() {
                    eprintln!(
                        "bench: round {} of {}: {}, {}: {:.2} {}",
                        round + 1,
                        options.rounds,
                        first.metric,
                        arm.contender,
                        first.value,
                        first.unit
                    );
                }
                for figure in figures {
                    samples.push(&arm.contender, figure);
                }
            }
        }
    }
    samples.add_latency();
    Ok(Outcome::new(&samples, &contenders))
}

fn idle_memory(world: &World, samples: &mut Samples) -> Result<()> {
    for arm in world.arms.iter().filter(|arm| !arm.contender.same_node) {
        for proxy in &arm.proxies {
            samples.push(
                &arm.contender,
                Figure {
                    metric: "memory-idle".to_owned(),
                    unit: "MiB",
                    value: memory::resident(proxy.pid)? / MIB,
                },
            );
        }
    }
    Ok(())
}
