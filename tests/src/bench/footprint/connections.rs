//! Memory for idle connections: opened through the proxies, answered once, then silent.

use super::memory;
use crate::bench::arm::Arm;
use crate::bench::evidence;
use crate::programs;
use anyhow::{Result, ensure};
use std::time::Duration;

/// How long it may take to open them all, and to close them.
const WITHIN: Duration = Duration::from_secs(120);

/// How much more each of the arm's proxies holds for one of `count` connections, bytes.
pub(super) fn measure(arm: &Arm, count: u32) -> Result<Vec<f64>> {
    memory::check_reserve()?;
    let before = memory::settled(arm)?;
    let program = programs::binary("lab-load")?.to_string_lossy().into_owned();
    let (to, number) = (arm.load.to_string(), count.to_string());
    let argv = [&*program, "idle", "--to", &to, "--connections", &number];
    let mut load = arm
        .client
        .place
        .start(&argv, &arm.client.dir.join("idle.log"))?;
    load.ready("the connections to be open", WITHIN, |printed| {
        memory::check_reserve()?;
        Ok(printed.contains("\"open\""))
    })?;
    evidence::check_tunnel(arm)?;
    let after = memory::settled(arm)?;
    // They were all open to the end, or this fails.
    load.close_input();
    let ended = load.wait(WITHIN)?;
    ensure!(ended.success(), "the idle connections: {}", load.tail());
    let more = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before);
    Ok(more.map(|bytes| bytes / f64::from(count)).collect())
}
