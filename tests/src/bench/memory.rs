//! Memory of a process, exact at the time of reading.

use anyhow::{Context as _, Result};
use std::fs;

/// Resident memory of the process, bytes, pages that it shares with others included.
pub(super) fn resident(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("{file} has no Rss"))?;
    Ok(kib.parse::<f64>()? * 1024.0)
}
