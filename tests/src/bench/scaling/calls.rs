//! System calls by which threads wait for each other and wake each other, counted by perf in the kernel:
//! nothing is stopped for it.

use crate::shell;
use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::event::{EventfdFlags, eventfd};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const FUTEX: &str = "syscalls:sys_enter_futex";
const WRITE: &str = "syscalls:sys_enter_write";
const EVENTFD: &str = "anon_inode:[eventfd]";
/// How long perf is tried.
const TRIAL: Duration = Duration::from_millis(200);
/// perf begins and ends in its own time.
const SPARE: Duration = Duration::from_secs(30);

/// A perf that can count them.
#[derive(Debug)]
pub(super) struct Calls(());

/// How many there were, for each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Waiting for a lock or a thread, and waking those that wait.
    pub(super) futex: f64,
    /// Waking a thread that sleeps in epoll.
    pub(super) wake_ups: f64,
}

impl Calls {
    /// Counts what a thread of this process does; says why when that is not possible.
    pub(super) fn available() -> Result<Self> {
        let own = Self(());
        let event = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        let over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _full = rustix::io::write(&event, &1_u64.to_ne_bytes());
                    thread::park_timeout(Duration::from_millis(1));
                }
            });
            let seen = own.count(&[std::process::id()], TRIAL);
            over.store(true, Ordering::Relaxed);
            seen
        });
        let seen = seen.with_context(|| {
            format!("perf cannot count {FUTEX}, which takes perf and a kernel with tracepoints")
        })?;
        ensure!(
            seen.futex > 0.0 && seen.wake_ups > 0.0,
            "perf overlooks system calls: of a thread that wakes and waits it saw {seen:?}"
        );
        Ok(own)
    }

    /// Counts those of all threads of these processes, for so long.
    pub(super) fn count(&self, pids: &[u32], length: Duration) -> Result<Rates> {
        let seconds = length.as_secs_f64();
        let counts = thread::scope(|scope| {
            let each = pids
                .iter()
                .map(|pid| scope.spawn(move || count(*pid, seconds)));
            let each: Vec<_> = each.collect();
            let joined = each.into_iter().map(|one| {
                let ended = one.join();
                ended.unwrap_or_else(|_| Err(anyhow!("the counting thread panicked")))
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        let mut sum = Rates::default();
        for (futex, wake_ups) in counts {
            sum.futex += futex / seconds;
            sum.wake_ups += wake_ups / seconds;
        }
        Ok(sum)
    }
}

/// The futex calls of one process and its writes to an eventfd.
fn count(pid: u32, seconds: f64) -> Result<(f64, f64)> {
    let fds = eventfds(pid)?;
    ensure!(!fds.is_empty(), "process {pid} has no eventfd");
    let filter: Vec<String> = fds.iter().map(|fd| format!("fd == {fd}")).collect();
    let (filter, process) = (filter.join(" || "), pid.to_string());
    let argv = [
        "stat",
        "-x",
        ",",
        "-e",
        FUTEX,
        "-e",
        WRITE,
        "--filter",
        &filter,
        "-p",
        &process,
        "--",
        "sleep",
        &format!("{seconds:.3}"),
    ];
    let limit = Duration::from_secs_f64(seconds) + SPARE;
    let output = shell::capture(Command::new("perf").args(argv), b"", limit)
        .context("is perf installed? `cargo xtask setup` installs it")?;
    ensure!(output.success(), "perf stat: {}", output.summary());
    let counted = |event| {
        let found = counted(&output.stderr, event);
        found.with_context(|| format!("perf did not count {event}: {}", output.stderr))
    };
    Ok((counted(FUTEX)?, counted(WRITE)?))
}

/// What perf counted of an event.
fn counted(text: &str, event: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.split(',').nth(2) == Some(event))?;
    match line.split(',').next()? {
        // No thread ran at all.
        "<not counted>" => Some(0.0),
        count => count.parse().ok(),
    }
}

/// The numbers of a process's descriptors that are eventfds.
fn eventfds(pid: u32) -> Result<Vec<u32>> {
    let dir = format!("/proc/{pid}/fd");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {dir}"))? {
        let entry = entry?;
        // A descriptor may be closed meanwhile.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if target.to_string_lossy() == EVENTFD
            && let Ok(number) = entry.file_name().to_string_lossy().parse()
        {
            found.push(number);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn perfs_table_is_read() {
        let text = "5120,,syscalls:sys_enter_futex,2400123456,100.00,,\n\
            <not counted>,,syscalls:sys_enter_write,0,100.00,,\n\
            <not supported>,,cycles,0,100.00,,\n";
        assert_eq!(counted(text, FUTEX), Some(5120.0));
        assert_eq!(counted(text, WRITE), Some(0.0));
        assert_eq!(counted(text, "cycles"), None);
        assert_eq!(counted("", FUTEX), None);
    }

    #[test]
    fn an_eventfd_is_found_among_the_descriptors() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let number = u32::try_from(fd.as_raw_fd()).unwrap();
        assert!(eventfds(std::process::id()).unwrap().contains(&number));
    }
}
