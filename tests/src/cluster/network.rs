//! The nodes' network: a namespace each, a veth pair as the wire, and plain routes to the other's pods.

use super::layout::{NODES, WIRE};
use crate::netns;
use crate::shell;
use anyhow::Result;

/// A gateway that nobody is: a service's address needs some route before it is translated.
const NOBODY: &str = "10.210.0.1";

pub(super) fn create() -> Result<()> {
    for node in &NODES {
        netns::create(node.netns, &[("ipv4/ip_forward", "1")])?;
    }
    let [one, two] = &NODES;
    shell::run(&[
        "ip", "-n", one.netns, "link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns",
        two.netns,
    ])?;
    for (node, other) in [(one, two), (two, one)] {
        let address = format!("{}/24", node.address);
        let ip = |words: &[&str]| shell::run(&[&["ip", "-n", node.netns][..], words].concat());
        ip(&["addr", "add", &address, "dev", WIRE])?;
        ip(&["link", "set", WIRE, "up"])?;
        ip(&[
            "route", "add", "default", "via", NOBODY, "dev", WIRE, "onlink",
        ])?;
        ip(&["route", "add", other.pods, "via", other.address])?;
    }
    Ok(())
}

pub(super) fn exists() -> bool {
    NODES.iter().all(|node| netns::path(node.netns).exists())
}

pub(super) fn remove() -> Result<()> {
    for node in &NODES {
        netns::delete(node.netns)?;
    }
    Ok(())
}
