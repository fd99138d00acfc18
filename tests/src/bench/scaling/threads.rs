//! What the threads of processes did, as the kernel counts it for each of them.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// The name of every data-plane thread begins so.
const WORKER: &str = "data-plane-";
/// The unit of CPU time in /proc, which is the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// The threads of some processes at a point in time.
pub(super) struct Threads {
    at: Instant,
    /// By process and thread.
    each: BTreeMap<(u32, u32), Thread>,
}

/// Counters of one thread since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Thread {
    worker: bool,
    /// CPU time in seconds, in user mode and in the kernel.
    cpu: f64,
    voluntary: f64,
    involuntary: f64,
}

/// What threads did in a time, for each second of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// CPU seconds of all threads.
    pub(super) cpu: f64,
    /// Voluntary context switches of the data-plane threads: each began to wait.
    pub(super) voluntary: f64,
    /// Involuntary ones: another thread got the core.
    pub(super) involuntary: f64,
    /// CPU time of a process's busiest data-plane thread divided by the mean of its data-plane threads;
    /// the mean over the processes.
    pub(super) busiest: f64,
}

impl Threads {
    /// Reads those of these processes.
    pub(super) fn read(pids: &[u32]) -> Result<Self> {
        let at = Instant::now();
        let mut each = BTreeMap::new();
        for pid in pids {
            let tasks = format!("/proc/{pid}/task");
            for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
                let dir = task?.path();
                // A thread may end meanwhile.
                let Ok(stat) = fs::read_to_string(dir.join("stat")) else {
                    continue;
                };
                let Ok(status) = fs::read_to_string(dir.join("status")) else {
                    continue;
                };
                let parsed = parse(&stat, &status);
                let (tid, thread) =
                    parsed.with_context(|| format!("cannot read {}", dir.display()))?;
                each.insert((*pid, tid), thread);
            }
        }
        Ok(Self { at, each })
    }

    /// What the threads that were there before did since then.
    pub(super) fn since(&self, before: &Self) -> Result<Rates> {
        let seconds = (self.at - before.at).as_secs_f64();
        rates(&before.each, &self.each, seconds).context("the data plane did nothing")
    }
}

/// None when the data-plane threads of a process used no CPU time.
fn rates(
    before: &BTreeMap<(u32, u32), Thread>,
    after: &BTreeMap<(u32, u32), Thread>,
    seconds: f64,
) -> Option<Rates> {
    let mut all = Rates {
        cpu: 0.0,
        voluntary: 0.0,
        involuntary: 0.0,
        busiest: 0.0,
    };
    let mut workers: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (key, now) in after {
        let Some(then) = before.get(key) else {
            continue;
        };
        let cpu = now.cpu - then.cpu;
        all.cpu += cpu / seconds;
        if now.worker {
            all.voluntary += (now.voluntary - then.voluntary) / seconds;
            all.involuntary += (now.involuntary - then.involuntary) / seconds;
            workers.entry(key.0).or_default().push(cpu);
        }
    }
    for used in workers.values() {
        let mean = used.iter().sum::<f64>() / used.len() as f64;
        let most = used.iter().copied().fold(0.0, f64::max);
        if mean == 0.0 {
            return None;
        }
        all.busiest += most / mean / workers.len() as f64;
    }
    (!workers.is_empty()).then_some(all)
}

/// The id and the counters of a thread, from its `stat` and its `status`.
fn parse(stat: &str, status: &str) -> Option<(u32, Thread)> {
    // The name is in parentheses and may hold anything.
    let (id, rest) = stat.split_once(" (")?;
    let (name, fields) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    let count = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse::<f64>().ok()
    };
    let thread = Thread {
        worker: name.starts_with(WORKER),
        // Fields 14 and 15 of the line; the first after the name is number 3.
        cpu: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        voluntary: count("voluntary_ctxt_switches:")?,
        involuntary: count("nonvoluntary_ctxt_switches:")?,
    };
    Some((id.parse().ok()?, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tdata-plane-1\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";

    #[test]
    fn a_thread_is_read_whatever_its_name() {
        let stat = "812 (data-plane-1) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16\n";
        let expected = Thread {
            worker: true,
            cpu: 3.0,
            voluntary: 150.0,
            involuntary: 7.0,
        };
        assert_eq!(parse(stat, STATUS), Some((812, expected)));
        let odd = "9 (a) (b) R 1 2 3 4 5 6 7 8 9 10 100 0 13\n";
        let (id, thread) = parse(odd, STATUS).unwrap();
        assert_eq!((id, thread.worker, thread.cpu), (9, false, 1.0));
        assert_eq!(parse("812 (x) S 1 2\n", STATUS), None);
        assert_eq!(parse(stat, "Name:\tx\n"), None);
        let own = Threads::read(&[std::process::id()]).unwrap();
        assert!(!own.each.is_empty());
    }

    #[test]
    fn the_spread_is_of_the_workers_of_each_process() {
        let thread = |worker, cpu, switches| Thread {
            worker,
            cpu,
            voluntary: switches,
            involuntary: 0.0,
        };
        let before = BTreeMap::from([
            ((1, 1), thread(false, 5.0, 900.0)),
            ((1, 2), thread(true, 1.0, 10.0)),
            ((1, 3), thread(true, 1.0, 10.0)),
            ((2, 8), thread(true, 0.0, 0.0)),
        ]);
        let after = BTreeMap::from([
            ((1, 1), thread(false, 5.5, 999.0)),
            ((1, 2), thread(true, 4.0, 30.0)),
            ((1, 3), thread(true, 2.0, 20.0)),
            ((2, 8), thread(true, 0.5, 10.0)),
            ((2, 9), thread(true, 9.0, 9.0)),
        ]);
        let rates = rates(&before, &after, 2.0).unwrap();
        assert_eq!((rates.cpu, rates.voluntary), (2.5, 20.0));
        // 3 of 2 on average in the one process, and all in the only thread of the other.
        assert_eq!(rates.busiest, 1.25);
        assert_eq!(super::rates(&before, &before, 2.0), None);
    }
}
