//! Memory for configuration: many workloads that run elsewhere.

use super::{dump, memory};
use crate::bench::arm::Arm;
use crate::bench::crowd;
use crate::bench::world::World;
use anyhow::{Result, ensure};

/// The memory of each of the arm's proxies, bytes; all of them know all `count` workloads.
pub(super) fn measure(world: &World, arm: &Arm, count: usize) -> Result<Vec<f64>> {
    let used = memory::settled(arm)?;
    // Afterwards: the dump takes memory too.
    for proxy in &arm.proxies {
        let known = dump::count(world.node(proxy.node)?.host.netns(), &crowd::mark())?;
        ensure!(
            known >= count,
            "the proxy of node {} knows {known} of {count} workloads",
            proxy.node
        );
    }
    Ok(used)
}
