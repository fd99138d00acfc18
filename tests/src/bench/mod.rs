//! The data plane's benchmark: the same loads through every contender, taking turns, many times over;
//! what the proxies cost at rest; a soak under full load; and what keeps threads from each other.
//!
//! Only one contender carries load at a time. A round runs each load once for every contender, one
//! right after the other, and each round begins with another contender, so that whatever disturbs the
//! machine disturbs all of them.

mod arm;
mod capability;
mod contender;
pub mod controller;
mod cpu;
mod crowd;
mod disturbance;
mod drive;
mod evidence;
mod footprint;
mod load;
mod notes;
mod peer;
mod plot;
mod policy;
pub mod report;
mod rounds;
mod scaling;
mod server;
mod soak;
mod world;

pub use controller::{ControllerOptions, controller};
pub use peer::PeerPath;
pub use plot::plot;
pub use policy::policy;
pub use scaling::scaling;
pub use soak::{Soaked, soak};

use anyhow::{Result, ensure};
use contender::Contender;
use disturbance::Disturbance;
use footprint::{FOOTPRINTS, Footprint};
use load::{LOADS, Load};
use report::{Machine, Report, Samples};
use std::fmt;
use world::{Furnishing, World};

/// What to measure, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// A proxy to compare with.
    pub peer: Option<PeerPath>,
    /// How often every load runs for every contender.
    pub rounds: u32,
    /// How long each run is measured, seconds.
    pub seconds: u32,
    /// Measure only what has a name that begins so; all when empty.
    pub only: Vec<String>,
    /// Measure only these contenders; all when empty.
    pub contenders: Vec<String>,
}

/// Something to measure.
#[derive(Clone, Copy)]
enum Subject {
    Load(Load),
    Footprint(Footprint),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(load) => load.fmt(f),
            Self::Footprint(footprint) => footprint.fmt(f),
        }
    }
}

impl Options {
    fn chosen_contenders(&self) -> Result<Vec<Contender>> {
        let fast_path = capability::agent_has("--same-node")?;
        let all = Contender::all(self.peer.as_ref().map(|peer| &*peer.name), fast_path);
        choose(&all, &self.contenders, |name, wanted| name == wanted)
    }

    fn chosen_subjects(&self) -> Result<(Vec<Load>, Vec<Footprint>)> {
        let all: Vec<Subject> = (LOADS.iter().map(|load| Subject::Load(*load)))
            .chain(
                FOOTPRINTS
                    .iter()
                    .map(|footprint| Subject::Footprint(*footprint)),
            )
            .collect();
        let (mut loads, mut footprints) = (Vec::new(), Vec::new());
        for subject in choose(&all, &self.only, |name, wanted| name.starts_with(wanted))? {
            match subject {
                Subject::Load(load) => loads.push(load),
                Subject::Footprint(footprint) => footprints.push(footprint),
            }
        }
        Ok((loads, footprints))
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

/// Measures what `options` choose, round by round.
pub fn compare(options: &Options) -> Result<Report> {
    let contenders = options.chosen_contenders()?;
    let (loads, footprints) = options.chosen_subjects()?;
    let proxies = contenders.iter().filter(|one| one.stands_for_its_proxy());
    let proxies: Vec<Contender> = proxies.cloned().collect();
    let at_rest = !footprints.is_empty() && !proxies.is_empty();
    ensure!(
        !loads.is_empty() || at_rest,
        "nothing to measure: memory and enrolment are measured of weft and of the peer, between nodes"
    );
    let machine = Machine::read(capability::versions(options.peer.as_ref())?)?;
    let (mut samples, mut disturbance) = (Samples::default(), Disturbance::default());
    let peer = options.peer.as_ref();
    if !loads.is_empty() {
        eprintln!("bench: starting the nodes, the mesh and the servers");
        let world = World::build(&contenders, peer, Furnishing::default())?;
        tell_processes(&world);
        rounds::run(&world, &loads, options, &mut samples, &mut disturbance)?;
    }
    if at_rest {
        footprint::run(&footprints, &proxies, peer, options.rounds, &mut samples)?;
    }
    let notes = notes::on_comparison(options, !loads.is_empty(), at_rest, &disturbance)?;
    let pairs = contender::pairs(&contenders);
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(of, with)| (&**of, &**with)).collect();
    Ok(samples.report(&pairs, machine, notes))
}

/// For whoever wants to profile them.
fn tell_processes(world: &World) {
    for arm in world.arms.iter().filter(|arm| !arm.proxies.is_empty()) {
        let pids = arm.proxies.iter().map(|proxy| proxy.pid.to_string());
        let pids: Vec<String> = pids.collect();
        eprintln!("bench: {}: processes {}", arm.contender, pids.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_by_name_and_an_unknown_name_is_an_error() {
        let options = |only: &[&str]| Options {
            peer: None,
            rounds: 1,
            seconds: 1,
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            contenders: Vec::new(),
        };
        let names = |only: &[&str]| -> Vec<String> {
            let (loads, footprints) = options(only).chosen_subjects().unwrap();
            let loads = loads.iter().map(ToString::to_string);
            loads
                .chain(footprints.iter().map(ToString::to_string))
                .collect()
        };
        assert_eq!(names(&[]).len(), LOADS.len() + FOOTPRINTS.len());
        assert_eq!(
            names(&["rtt-64b", "memory-idle"]),
            ["rtt-64b-1", "rtt-64b-64", "memory-idle"]
        );
        assert_eq!(names(&["memory-1000-"]), ["memory-1000-connections"]);
        let error = options(&["bulk-1", "x"])
            .chosen_subjects()
            .map(drop)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("there is no x; there are bulk-1, "),
            "{error}"
        );
    }
}
