//! That a contender's connections take the way that it stands for.

use super::contender::Via;
use super::drive;
use super::world::Arm;
use crate::netns;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// The port of HBONE, on which a server's proxy accepts tunnels inside the server's pod.
const HBONE: u16 = 15008;
const ESTABLISHED: &str = "01";

/// Carries a little load through the arm; a tunnel must then end in the server's pod if a proxy is to
/// be measured, and none if not.
pub(super) fn check(arm: &Arm) -> Result<()> {
    let name = &arm.contender;
    let trips = drive::round_trips(arm, 64, 1, 1).with_context(|| format!("{name} fails"))?;
    ensure!(trips.round_trips > 0, "{name} carries nothing");
    let tunnelled = has_connection(arm.server.place.netns(), HBONE)?;
    let expected = arm.contender.via != Via::Direct;
    ensure!(
        tunnelled == expected,
        "{name}: {} tunnel ends in the server's pod",
        if tunnelled { "a" } else { "no" }
    );
    Ok(())
}

/// True when a connection to this port of the namespace is open.
fn has_connection(netns: &Path, port: u16) -> Result<bool> {
    let tables = netns::within(netns, || {
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
    })?;
    let suffix = format!(":{port:04X}");
    for table in tables {
        let table = table.context("cannot read the namespace's sockets")?;
        let open = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words[..], [_, local, _, ESTABLISHED, ..] if local.ends_with(&suffix))
        };
        if table.lines().any(open) {
            return Ok(true);
        }
    }
    Ok(false)
}
