//! The loads, round by round: each once for every contender, one right after the other.

use super::Options;
use super::contender::Contender;
use super::disturbance::Disturbance;
use super::evidence;
use super::load::{Figure, Load};
use super::report::Samples;
use super::world::World;
use anyhow::{Context as _, Result};

/// Ends of the names of metrics that are times.
const LATENCIES: &[&str] = &["-p50", "-p99", "-p999"];

/// Runs every round and adds what each gave.
pub(super) fn run(
    world: &World,
    loads: &[Load],
    options: &Options,
    samples: &mut Samples,
    disturbance: &mut Disturbance,
) -> Result<()> {
    for arm in &world.arms {
        evidence::check(world, arm)?;
    }
    for round in 0..options.rounds {
        for load in loads {
            let mut taken = Vec::new();
            for turn in 0..world.arms.len() {
                let arm = &world.arms[(round as usize + turn) % world.arms.len()];
                let figures = evidence::around(world, arm, || {
                    load.run(arm, &world.cgroup, options.seconds, disturbance)
                });
                let figures =
                    figures.with_context(|| format!("{load} through {}", arm.contender))?;
                tell(round, options.rounds, &arm.contender, &figures);
                taken.push((&arm.contender, figures));
            }
            let added = added(&taken);
            for (contender, figures) in taken.iter().chain(&added) {
                for figure in figures {
                    let Figure {
                        metric,
                        unit,
                        value,
                    } = figure;
                    samples.add(metric, unit, &contender.to_string(), round, *value)?;
                }
            }
        }
    }
    Ok(())
}

/// Says on stderr how far the benchmark is.
pub(super) fn tell(round: u32, rounds: u32, contender: &Contender, figures: &[Figure]) {
    if let Some(Figure {
        metric,
        unit,
        value,
    }) = figures.first()
    {
        let round = round + 1;
        eprintln!("bench: round {round} of {rounds}: {metric}, {contender}: {value:.2} {unit}");
    }
}

/// For every time through a proxy, how much longer than without it took in the same round.
fn added<'a>(taken: &[(&'a Contender, Vec<Figure>)]) -> Vec<(&'a Contender, Vec<Figure>)> {
    let without = |contender: &Contender| {
        let direct = contender.without_proxy();
        let found = taken.iter().find(|(other, _)| **other == direct);
        found.filter(|_| direct != *contender)
    };
    let more = |(contender, figures): &(&'a Contender, Vec<Figure>)| {
        let (_, direct) = without(contender)?;
        let times = figures.iter().filter(|figure| {
            let latency = |end: &&str| figure.metric.ends_with(end);
            LATENCIES.iter().any(latency)
        });
        let more = times.filter_map(|figure| {
            let base = direct.iter().find(|base| base.metric == figure.metric)?;
            Some(Figure {
                metric: format!("{}-added", figure.metric),
                unit: figure.unit.clone(),
                value: figure.value - base.value,
            })
        });
        Some((*contender, more.collect()))
    };
    taken.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(metric: &str, value: f64) -> Figure {
        Figure {
            metric: metric.to_owned(),
            unit: "µs".to_owned(),
            value,
        }
    }

    #[test]
    fn added_time_is_against_no_proxy_with_pods_placed_alike() {
        let all = Contender::all(None, false);
        let values = [(30.0, 0.2), (20.0, 0.1), (75.0, 0.9), (50.0, 0.8)];
        let taken: Vec<_> = all
            .iter()
            .zip(values)
            .map(|(contender, (p50, cpu))| {
                let figures = vec![figure("rtt-p50", p50), figure("rtt-cpu-machine", cpu)];
                (contender, figures)
            })
            .collect();
        let added = added(&taken);
        let seen: Vec<_> = added
            .iter()
            .flat_map(|(contender, figures)| {
                let told =
                    |figure: &Figure| (contender.to_string(), figure.metric.clone(), figure.value);
                figures.iter().map(told)
            })
            .collect();
        let expected = [("weft", 45.0), ("weft-same-node", 30.0)];
        let expected = expected.map(|(name, more)| (name.into(), "rtt-p50-added".into(), more));
        assert_eq!(seen, expected);
        assert!(super::added(&taken[2..]).is_empty());
    }
}
