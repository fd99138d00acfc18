//! That a contender's connections take the way that it stands for.

use super::arm::Arm;
use super::contender::Via;
use super::drive;
use super::world::World;
use crate::{netns, wait};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// The port of HBONE, on which a server's proxy accepts tunnels inside the server's pod.
const HBONE: u16 = 15008;
const ESTABLISHED: &str = "01";
/// Why the eBPF programs let a connect pass without a tunnel.
const PASSED: &str = "pass_direct";

/// Carries a little load through the arm; a tunnel must then end in the server's pod if a proxy is to
/// be measured, and none if not.
pub(super) fn check(world: &World, arm: &Arm) -> Result<()> {
    let name = &arm.contender;
    let trips = drive::round_trips(arm, 64, 1, 1).with_context(|| format!("{name} fails"))?;
    ensure!(trips.round_trips > 0, "{name} carries nothing");
    match arm.contender.via {
        Via::Direct => ensure!(
            !tunnelled(arm)?,
            "{name}: a tunnel ends in the server's pod"
        ),
        Via::Weft | Via::Peer(_) => check_tunnel(arm)?,
        // The first connection to a port takes a tunnel; later ones are exempted from it.
        Via::WeftDirect => {
            let load = || drive::connections(arm, 1, 1).map(drop);
            goes_direct(world, arm, load)?;
            goes_direct(world, arm, || drive::http(arm, 1, 1).map(drop))?;
        }
    }
    Ok(())
}

/// A tunnel must end in the server's pod.
pub(super) fn check_tunnel(arm: &Arm) -> Result<()> {
    let name = &arm.contender;
    ensure!(
        tunnelled(arm)?,
        "{name}: no tunnel ends in the server's pod"
    );
    Ok(())
}

/// Runs `work`; where connections are to pass without a tunnel, some must have done so meanwhile.
pub(super) fn around<T>(world: &World, arm: &Arm, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = passed(world, arm)?;
    let done = work()?;
    if let (Some(before), Some(after)) = (before, passed(world, arm)?) {
        let name = &arm.contender;
        ensure!(
            after > before,
            "{name}: no connection went without a tunnel"
        );
    }
    Ok(done)
}

/// Repeats `work` until connections pass without a tunnel meanwhile.
fn goes_direct(world: &World, arm: &Arm, work: impl Fn() -> Result<()>) -> Result<()> {
    let what = format!("{} to go without a tunnel", arm.contender);
    wait::until_true(&what, wait::DEADLINE, || {
        let before = passed(world, arm)?;
        work()?;
        Ok(passed(world, arm)? > before)
    })
}

/// How many connects passed without a tunnel, where that is what the arm stands for.
fn passed(world: &World, arm: &Arm) -> Result<Option<u64>> {
    if arm.contender.via != Via::WeftDirect {
        return Ok(None);
    }
    Ok(Some(world.agent(arm.client.node)?.decisions(PASSED)?))
}

fn tunnelled(arm: &Arm) -> Result<bool> {
    has_connection(arm.server.place.netns(), HBONE)
}

/// True when a connection to this port of the namespace is open.
fn has_connection(netns: &Path, port: u16) -> Result<bool> {
    let tables = netns::within(netns, || {
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
    })?;
    for table in tables {
        let table = table.context("cannot read the namespace's sockets")?;
        if lists_connection(&table, port) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True when the kernel's table of TCP sockets has an open connection of this local port.
fn lists_connection(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words[..], [_, local, _, ESTABLISHED, ..] if local.ends_with(&suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::lists_connection;

    #[test]
    fn only_an_open_connection_of_the_port_itself_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            \x20  0: 0A02580A:3AA0 00000000:0000 0A 00000000:00000000\n\
            \x20  1: 0A02580A:1B58 0A01580A:3AA0 01 00000000:00000000\n\
            \x20  2: 0A02580A:0050 0A01580A:C001 06 00000000:00000000\n";
        assert!(lists_connection(table, 0x1B58));
        assert!(!lists_connection(table, 0x3AA0), "it only listens");
        assert!(!lists_connection(table, 0x0050), "it is closed");
        assert!(!lists_connection("", 0x1B58));
    }
}
