//! What would keep more cores from doing more work: the same work is done by agents with 1, 2, 4 and 8
//! data-plane threads, and what these threads cost each other is counted from outside, for each unit of
//! work. A machine with few cores cannot show a rate that grows; it can show that what threads share
//! does not grow with their number.

mod calls;
mod fleet;
mod threads;

use super::load::Figure;
use super::report::{Machine, Report, Samples};
use super::{capability, drive};
use anyhow::{Context as _, Result, anyhow, ensure};
use calls::Calls;
use fleet::{Fleet, PAIRS};
use std::thread;
use std::time::Duration;
use threads::Threads;

/// How many data-plane threads the agents have.
const WORKERS: &[u32] = &[1, 2, 4, 8];
const OPTION: &str = "--workers";

/// When counting begins: the loads have connected and warmed up.
const LEAD: Duration = Duration::from_millis(700);
/// How long before the loads' end it ends.
const TAIL: Duration = Duration::from_millis(300);
const GIB: f64 = (1_u64 << 30) as f64;

/// A load, and how much of it there is at a time over all pairs of pods.
#[derive(Clone, Copy, Debug)]
enum Work {
    Bulk(u32),
    Http(u32),
    Connect(u32),
}

const WORK: &[Work] = &[Work::Bulk(8), Work::Http(64), Work::Connect(16)];

impl Work {
    fn name(self) -> String {
        match self {
            Self::Bulk(streams) => format!("bulk-{streams}"),
            Self::Http(connections) => format!("http-{connections}"),
            Self::Connect(_) => "connect".to_owned(),
        }
    }

    /// The rate's unit, what one unit of work is called, and how much of the rate that is.
    const fn units(self) -> (&'static str, &'static str, f64) {
        match self {
            Self::Bulk(_) => ("GiB/s", "GiB", 1.0),
            Self::Http(_) => ("requests/s", "100k requests", 1e5),
            Self::Connect(_) => ("connections/s", "10k connections", 1e4),
        }
    }

    /// Runs it on every pair at once; the rate of all together.
    fn run(self, fleet: &Fleet, seconds: u32) -> Result<f64> {
        let share = |all: u32| all / PAIRS;
        let one = |arm| -> Result<f64> {
            Ok(match self {
                Self::Bulk(streams) => {
                    let bulk = drive::bulk(arm, share(streams), seconds)?;
                    bulk.bytes as f64 / bulk.seconds / GIB
                }
                Self::Http(connections) => drive::http(arm, share(connections), seconds)?,
                Self::Connect(concurrency) => {
                    let made = drive::connections(arm, share(concurrency), seconds)?;
                    made.connections as f64 / made.seconds
                }
            })
        };
        thread::scope(|scope| {
            let loads: Vec<_> = fleet
                .arms
                .iter()
                .map(|arm| scope.spawn(move || one(arm)))
                .collect();
            let joined = loads.into_iter().map(|load| {
                let ended = load.join();
                ended.unwrap_or_else(|_| Err(anyhow!("the thread of a load panicked")))
            });
            joined
                .collect::<Result<Vec<f64>>>()
                .map(|rates| rates.iter().sum())
        })
    }
}

/// Counts for every number of threads, as often as there are rounds.
pub fn scaling(rounds: u32, seconds: u32) -> Result<Report> {
    ensure!(
        capability::agent_has(OPTION)?,
        "mesh-node has no option {OPTION}: build it anew"
    );
    ensure!(seconds >= 2, "counting takes runs of at least 2 seconds");
    let machine = Machine::read(capability::versions(None)?)?;
    let calls = Calls::available();
    let mut samples = Samples::default();
    for round in 0..rounds {
        for turn in 0..WORKERS.len() {
            let workers = WORKERS[(round as usize + turn) % WORKERS.len()];
            let contender = contender(workers);
            let fleet = Fleet::start(workers)?;
            for work in WORK {
                let figures = measure(*work, &fleet, seconds, calls.as_ref().ok());
                let figures = figures.with_context(|| format!("{}, {contender}", work.name()))?;
                for Figure {
                    metric,
                    unit,
                    value,
                } in figures
                {
                    samples.add(&metric, &unit, &contender, round, value)?;
                }
            }
            eprintln!("bench: round {} of {rounds}: {contender}", round + 1);
        }
    }
    let names: Vec<String> = WORKERS.iter().map(|workers| contender(*workers)).collect();
    let pairs: Vec<(&str, &str)> = names[1..]
        .iter()
        .map(|name| (&**name, &*names[0]))
        .collect();
    let mut notes = notes()?;
    notes.extend(
        calls
            .err()
            .map(|error| format!("System calls were not counted: {error:#}")),
    );
    Ok(samples.report(&pairs, machine, notes))
}

fn contender(workers: u32) -> String {
    format!("workers-{workers}")
}

/// Runs the work and counts in its midst.
fn measure(work: Work, fleet: &Fleet, seconds: u32, calls: Option<&Calls>) -> Result<Vec<Figure>> {
    let counting = Duration::from_secs(seconds.into()) - LEAD - TAIL;
    let (rate, seen) = thread::scope(|scope| {
        let counter = scope.spawn(|| {
            thread::sleep(LEAD);
            observe(&fleet.pids, counting, calls)
        });
        let rate = work.run(fleet, seconds);
        let seen = counter.join();
        (
            rate,
            seen.unwrap_or_else(|_| Err(anyhow!("the counting thread panicked"))),
        )
    });
    // A load that failed says more than a count that did.
    let (rate, seen) = (rate?, seen?);
    fleet.check()?;
    ensure!(rate > 0.0, "nothing was carried");
    let (unit, of, size) = work.units();
    let units = rate / size;
    let name = work.name();
    let figure = |what: &str, unit: String, value| Figure {
        metric: format!("{name}{what}"),
        unit,
        value,
    };
    let mut figures = vec![figure("", unit.to_owned(), rate)];
    if let Some(counts) = seen.calls {
        let futex = figure("-futex-calls", format!("calls/{of}"), counts.futex / units);
        let wakes = figure(
            "-wake-ups",
            format!("eventfd writes/{of}"),
            counts.wake_ups / units,
        );
        figures.extend([futex, wakes]);
    }
    let switches = format!("switches/{of}");
    let threads = seen.threads;
    figures.extend([
        figure("-waits", switches.clone(), threads.voluntary / units),
        figure("-preemptions", switches, threads.involuntary / units),
        figure("-cpu", format!("s/{of}"), threads.cpu / units),
        figure("-busiest-worker", "x mean".to_owned(), threads.busiest),
    ]);
    Ok(figures)
}

/// What was counted, for each second.
struct Seen {
    threads: threads::Rates,
    calls: Option<calls::Rates>,
}

fn observe(pids: &[u32], length: Duration, calls: Option<&Calls>) -> Result<Seen> {
    let before = Threads::read(pids)?;
    let counted = match calls {
        Some(calls) => Some(calls.count(pids, length)?),
        None => {
            thread::sleep(length);
            None
        }
    };
    Ok(Seen {
        threads: Threads::read(pids)?.since(&before)?,
        calls: counted,
    })
}

fn notes() -> Result<Vec<String>> {
    let cores = thread::available_parallelism()?.get();
    Ok(vec![
        format!(
            "This machine has {cores} cores, which client, server and agents share: the rates say nothing about \
             scaling. What says something is whether the counts for one unit of work grow with the number of \
             threads. Contention on memory that threads share is not counted."
        ),
        format!(
            "Both agents together, {PAIRS} clients on one node, {PAIRS} servers on the other. futex-calls: waits \
             for and wake-ups through locks, by all threads of the agents. wake-ups: one thread waking another \
             that sleeps in epoll, by a write to its eventfd. waits and preemptions: voluntary and involuntary \
             context switches of the data-plane threads; how many there are depends on the number of cores. cpu: \
             CPU time of all threads. busiest-worker: CPU time of the busiest data-plane thread of an agent \
             divided by the mean of them all."
        ),
    ])
}
