//! Memory of the proxies, and what the machine has left.

use crate::bench::arm::Arm;
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::time::{Duration, Instant};

pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// A process is at rest when its memory has changed by less than this for so long.
const CALM: f64 = 0.125 * MIB;
const CALM_FOR: Duration = Duration::from_secs(2);
const REST_WITHIN: Duration = Duration::from_secs(60);

/// The machine must keep this much for everything else, bytes.
const RESERVE: u64 = 2 << 30;
/// Files that a proxy opens besides the connections.
const SPARE_FILES: u64 = 1024;

/// Resident memory of each of the arm's proxies once it is at rest, bytes.
pub(super) fn settled(arm: &Arm) -> Result<Vec<f64>> {
    let now = || {
        arm.proxies
            .iter()
            .map(|proxy| resident(proxy.pid))
            .collect::<Result<Vec<_>>>()
    };
    let (mut calm, mut since) = (now()?, Instant::now());
    let what = format!("the memory of {} to stay as it is", arm.contender);
    wait::until(&what, REST_WITHIN, || {
        let used = now()?;
        let changed = |(a, b): (&f64, &f64)| (a - b).abs() >= CALM;
        if used.iter().zip(&calm).any(changed) {
            (calm, since) = (used.clone(), Instant::now());
        }
        Ok((since.elapsed() >= CALM_FOR).then_some(used))
    })
}

/// Fails while the machine has so little memory left that it is in danger.
pub(super) fn check_reserve() -> Result<()> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let left = kibibytes(&text, "MemAvailable:").context("/proc/meminfo tells no MemAvailable")?;
    ensure!(
        left >= RESERVE,
        "the machine has {} MiB of memory left, less than the {} MiB that it is to keep: free some, or \
         leave this out with --only",
        left >> 20,
        RESERVE >> 20
    );
    Ok(())
}

/// Lets this process, and those that it starts, hold this many sockets besides a few other files.
pub(super) fn allow_sockets(count: u32) -> Result<()> {
    let need = u64::from(count) + SPARE_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(need),
        maximum: limit.maximum.map(|maximum| maximum.max(need)),
    };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        format!("{count} connections need {need} open files: raise the limit (`ulimit -n {need}`)")
    })
}

/// Resident memory of the process, bytes, pages that it shares with others included; exact at the time
/// of reading.
fn resident(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let bytes = kibibytes(&text, "Rss:").with_context(|| format!("{file} has no Rss"))?;
    Ok(bytes as f64)
}

/// The value of this key of a /proc file, which is in KiB there, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let mut words = rest.split_whitespace();
    let (count, unit) = (words.next()?, words.next()?);
    (unit == "kB").then(|| count.parse::<u64>().ok()?.checked_mul(1024))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let rollup = "5581a000-7ffd8000 ---p 00000000 00:00 0    [rollup]\n\
            Rss:               15204 kB\nPss:                9001 kB\nShared_Clean:   1 kB\n";
        assert_eq!(kibibytes(rollup, "Rss:"), Some(15204 * 1024));
        assert_eq!(kibibytes(rollup, "Pss:"), Some(9001 * 1024));
        assert_eq!(kibibytes(rollup, "Swap:"), None);
        assert_eq!(kibibytes("Rss: 5 MB\n", "Rss:"), None);
        assert_eq!(kibibytes("Rss: x kB\n", "Rss:"), None);
        assert!(resident(std::process::id()).unwrap() > MIB);
    }
}
