//! CPU time: of the proxies by their cgroups, and of the whole machine, in which the kernel's work for
//! packets is counted whoever it interrupts.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The unit of /proc/stat, which is the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// When sampling begins: the load has connected and warmed up.
const LEAD: Duration = Duration::from_millis(500);
/// How long before the load's end sampling ends.
const TAIL: Duration = Duration::from_millis(100);

/// Processors in use, on average over a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// By the proxies, in user mode.
    pub(super) proxies_user: f64,
    /// By the proxies, in user mode and in the kernel.
    pub(super) proxies: f64,
    /// By everything on the machine.
    pub(super) machine: f64,
    /// By what does not belong to the lab; the kernel's own threads are in it.
    pub(super) foreign: f64,
}

/// Runs `work`, which keeps up its load for `length`, and samples in its midst.
pub(super) fn during<T>(
    cgroups: &[PathBuf],
    lab: &Path,
    length: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Usage)> {
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            std::thread::sleep(LEAD);
            let first = Reading::now(cgroups, lab)?;
            std::thread::sleep(length.saturating_sub(LEAD + TAIL));
            Ok(Reading::now(cgroups, lab)?.since(&first))
        });
        let done = work();
        let usage: Result<Usage> = match sampler.join() {
            Ok(usage) => usage,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((done?, usage?))
    })
}

/// CPU seconds since some point in time.
struct Reading {
    at: Instant,
    user: f64,
    system: f64,
    lab: f64,
    machine: f64,
}

impl Reading {
    fn now(cgroups: &[PathBuf], lab: &Path) -> Result<Self> {
        let (lab_user, lab_system) = group(lab)?;
        let mut now = Self {
            at: Instant::now(),
            user: 0.0,
            system: 0.0,
            lab: lab_user + lab_system,
            machine: machine()?,
        };
        for cgroup in cgroups {
            let (user, system) = group(cgroup)?;
            now.user += user;
            now.system += system;
        }
        Ok(now)
    }

    fn since(&self, first: &Self) -> Usage {
        let seconds = (self.at - first.at).as_secs_f64();
        let user = (self.user - first.user) / seconds;
        let machine = (self.machine - first.machine) / seconds;
        Usage {
            proxies_user: user,
            proxies: user + (self.system - first.system) / seconds,
            machine,
            foreign: machine - (self.lab - first.lab) / seconds,
        }
    }
}

fn group(cgroup: &Path) -> Result<(f64, f64)> {
    let file = cgroup.join("cpu.stat");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    user_and_system(&text).with_context(|| format!("{} has no CPU time", file.display()))
}

/// The seconds in user mode and in the kernel that a cgroup's cpu.stat tells.
fn user_and_system(stat: &str) -> Option<(f64, f64)> {
    let seconds = |key: &str| {
        let micros = stat.lines().find_map(|line| line.strip_prefix(key))?;
        Some(micros.parse::<f64>().ok()? / 1e6)
    };
    Some((seconds("user_usec ")?, seconds("system_usec ")?))
}

fn machine() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy(&text).context("/proc/stat has no line for all processors")
}

/// All but idle, waiting for disks, and what a hypervisor took: user, nice, system, irq, softirq.
fn busy(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].iter().map(|&column| ticks.get(column));
    Some(busy.sum::<Option<f64>>()? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::{busy, user_and_system};

    #[test]
    fn idle_disk_and_stolen_time_is_not_counted() {
        let stat = "cpu  100 20 30 4000 500 6 7 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(stat), Some(1.63));
        assert_eq!(busy("intr 5\n"), None);
        assert_eq!(busy("cpu  1 2\n"), None);
    }

    #[test]
    fn a_cgroup_tells_user_and_system_time() {
        let stat = "usage_usec 3500000\nuser_usec 1500000\nsystem_usec 2000000\nnr_periods 0\n";
        assert_eq!(user_and_system(stat), Some((1.5, 2.0)));
        assert_eq!(user_and_system("user_usec 1500000\n"), None);
        assert_eq!(user_and_system("user_usec x\nsystem_usec 1\n"), None);
    }
}
