//! Whose lab it is: a process, told apart from a later one with the same id by its start time.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// The process that made a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    start: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> Result<Self> {
        let pid = std::process::id();
        let start = start_time(pid).context("cannot read this process's start time from /proc")?;
        Ok(Self { pid, start })
    }

    /// True while the process that is meant still runs.
    pub(crate) fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Reads what `write` wrote; nothing when there is no such file or it is damaged.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(dir.join("owner")).ok()?;
        let mut words = text.split_whitespace();
        Some(Self {
            pid: words.next()?.parse().ok()?,
            start: words.next()?.parse().ok()?,
        })
    }

    /// Records the owner in the lab's directory.
    pub(crate) fn write(self, dir: &Path) -> Result<()> {
        let file = dir.join("owner");
        fs::write(&file, format!("{} {}\n", self.pid, self.start))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Field 22 of `/proc/PID/stat`, counted after the command's name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
