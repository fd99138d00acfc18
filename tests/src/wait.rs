//! Waiting for something to become true: polled, never slept for, and bounded by a deadline.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long anything in the lab may take to come about.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `check` yields a value; past the deadline the error says what was waited for.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = check()? {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Polls until `check` is true.
pub fn until_true(
    what: &str,
    deadline: Duration,
    mut check: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, deadline, || Ok(check()?.then_some(())))
}
