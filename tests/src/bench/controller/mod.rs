//! The controller's benchmark: how soon every node knows of one changed pod, and what that costs.
//!
//! The controller runs in a process of its own, with its own compile stage, discovery and TLS; only the
//! source is the benchmark's. The nodes are tasks of this process: real connections that take every
//! byte and acknowledge it, but decode nothing. Both share the machine, so that what the nodes use is
//! part of every time.

mod mesh;
mod node;
mod process;
mod response;

pub use mesh::{Size, objects, pod};

use super::report::{Machine, Report, Samples};
use anyhow::{Context as _, Result, ensure};
use node::Receipt;
use process::Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Changes that are made before those that count.
const WARM_UP: u32 = 10;
/// From one change, which every node knows of, to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Nothing that is waited for takes so long.
const DEADLINE: Duration = Duration::from_secs(600);

/// What to measure, and how often.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// How many pods there are: each of these.
    pub workloads: Vec<u32>,
    /// How many nodes there are: each of these.
    pub nodes: Vec<u32>,
    /// How often everything is measured, each time with a new controller.
    pub rounds: u32,
    /// How many pods change in a round, one after the other.
    pub changes: u32,
}

/// Measures every combination. A round that fails is left out and named in the second value.
///
/// # Errors
/// When the machine cannot be described.
pub fn controller(options: &ControllerOptions) -> Result<(Report, Vec<String>)> {
    let versions = [("weft".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let machine = Machine::read(versions.into())?;
    let mut samples = Samples::default();
    let mut failed = Vec::new();
    for workloads in &options.workloads {
        for nodes in &options.nodes {
            let size = Size {
                workloads: *workloads,
                nodes: *nodes,
            };
            for round in 1..=options.rounds {
                eprintln!("bench: {workloads} workloads, {nodes} nodes, round {round}");
                let values = measure(size, options.changes);
                if let Err(error) = values.and_then(|values| values.add(size, round, &mut samples))
                {
                    let what = format!(
                        "{workloads} workloads, {nodes} nodes, round {round} failed: {error:#}"
                    );
                    eprintln!("bench: {what}");
                    failed.push(what);
                }
            }
        }
    }
    let mut notes = vec![
        format!(
            "each round is a new controller; in each, {} pods change one after the other, after {WARM_UP} \
             that do not count",
            options.changes
        ),
        "a change's time is from its request to the last node's last byte; p50 and p99 are over the \
         changes of a round"
            .into(),
        "nodes and controller share the cores".into(),
    ];
    notes.extend(failed.iter().cloned());
    Ok((samples.report(&[], machine, notes), failed))
}

/// What one round gave: metric, unit and value.
#[derive(Default)]
struct Values(Vec<(&'static str, &'static str, f64)>);

impl Values {
    fn set(&mut self, metric: &'static str, unit: &'static str, value: f64) {
        self.0.push((metric, unit, value));
    }

    fn add(self, size: Size, round: u32, samples: &mut Samples) -> Result<()> {
        let contender = format!("{}x{}", size.workloads, size.nodes);
        for (metric, unit, value) in self.0 {
            samples.add(metric, unit, &contender, round, value)?;
        }
        Ok(())
    }
}

/// Simulated nodes, and what they receive.
struct Crowd {
    tasks: JoinSet<Result<()>>,
    sender: mpsc::UnboundedSender<Receipt>,
    receipts: mpsc::UnboundedReceiver<Receipt>,
    retries: Arc<AtomicU32>,
}

impl Crowd {
    fn new() -> Self {
        let (sender, receipts) = mpsc::unbounded_channel();
        Self {
            tasks: JoinSet::new(),
            sender,
            receipts,
            retries: Arc::default(),
        }
    }

    /// How often nodes had to connect again.
    fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }

    fn connect(&mut self, process: &Process, numbers: std::ops::Range<u32>) -> Result<()> {
        for number in numbers {
            let name = mesh::node_name(number);
            let token = process.token(&name)?;
            let receipts = self.sender.clone();
            let (net, retries) = (process.net(), Arc::clone(&self.retries));
            self.tasks
                .spawn(node::run(net, name, token, receipts, retries));
        }
        Ok(())
    }

    /// Waits until `count` nodes were sent addresses; the last receipt, and the bytes of all.
    async fn receive(&mut self, count: u32) -> Result<(Instant, u64)> {
        let (mut left, mut bytes, mut last) = (count, 0, Instant::now());
        let deadline = tokio::time::sleep(DEADLINE);
        tokio::pin!(deadline);
        while left > 0 {
            let receipt = tokio::select! {
                receipt = self.receipts.recv() => receipt.context("no node is left")?,
                Some(ended) = self.tasks.join_next() => {
                    ended??;
                    anyhow::bail!("a node ended");
                }
                () = &mut deadline => anyhow::bail!("{left} of {count} nodes were not told"),
            };
            bytes += receipt.bytes;
            if receipt.of_addresses {
                left -= 1;
                last = receipt.at;
            }
        }
        Ok((last, bytes))
    }
}

fn measure(size: Size, changes: u32) -> Result<Values> {
    let mut values = Values::default();
    let empty = Process::start(Size {
        workloads: 0,
        ..size
    })?
    .memory()?;
    let mut process = Process::start(size)?;
    eprintln!("bench: process {}", process.id());
    let alone = process.memory()?;
    let per_workload = alone.saturating_sub(empty) as f64 / f64::from(size.workloads);
    values.set("memory-per-workload", "B", per_workload);

    let runtime = Runtime::new()?;
    let mut crowd = Crowd::new();
    let _entered = runtime.enter();
    let start = Instant::now();
    crowd.connect(&process, 0..1)?;
    let (at, bytes) = runtime.block_on(crowd.receive(1))?;
    values.set("first-sync-one", "ms", millis(at.duration_since(start)));
    values.set("first-sync-bytes", "B", bytes as f64);
    let before = process.memory()?;

    let (start, cpu) = (Instant::now(), process.cpu()?);
    crowd.connect(&process, 1..size.nodes)?;
    let (at, _) = runtime.block_on(crowd.receive(size.nodes - 1))?;
    values.set("first-sync-all", "ms", millis(at.duration_since(start)));
    values.set("first-sync-all-retries", "n", f64::from(crowd.retries()));
    values.set("first-sync-all-cpu", "s", process.cpu()? - cpu);
    let after = process.memory()?;
    let per_client = after.saturating_sub(before) as f64 / f64::from(size.nodes - 1);
    values.set("memory-per-client", "B", per_client);

    let (mut times, mut sent, mut cpu) = (Vec::new(), 0, 0.0);
    for change in 0..WARM_UP + changes {
        if change == WARM_UP {
            (sent, cpu) = (0, process.cpu()?);
        }
        // Spread over the mesh, and each only once.
        let pod = change * 7919 % size.workloads;
        let start = Instant::now();
        process.touch(pod)?;
        let (at, bytes) = runtime.block_on(crowd.receive(size.nodes))?;
        sent += bytes;
        if change >= WARM_UP {
            times.push(millis(at.duration_since(start)));
        }
        std::thread::sleep(PAUSE);
    }
    ensure!(!times.is_empty(), "nothing changed");
    times.sort_by(f64::total_cmp);
    values.set("change-to-all-p50", "ms", percentile(&times, 0.5));
    values.set("change-to-all-p99", "ms", percentile(&times, 0.99));
    values.set(
        "change-bytes-per-node",
        "B",
        sent as f64 / f64::from(changes * size.nodes),
    );
    let used = process.cpu()? - cpu;
    values.set("change-cpu", "ms", used * 1000.0 / f64::from(changes));
    Ok(values)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The smallest value that this share of the values does not exceed; they are sorted.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values[..1], 0.99), 1.0);
    }
}
