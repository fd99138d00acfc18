//! How long it takes to take pods in: asked for one after the other, as a CNI plugin does, until each is
//! answered for.

use crate::bench::arm::Arm;
use crate::bench::contender::Via;
use crate::bench::world::World;
use crate::caller;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// The time for all pods that wait.
pub(super) fn measure(world: &World, arm: &Arm) -> Result<Duration> {
    ensure!(!world.waiting.is_empty(), "no pod waits");
    match arm.contender.via {
        Via::Peer(_) => with_peer(world, arm),
        _ => with_weft(world, arm),
    }
}

/// Through the agent's socket.
fn with_weft(world: &World, arm: &Arm) -> Result<Duration> {
    let agent = world.agent(arm.client.node)?;
    let socket = agent.enrolment_socket();
    let start = Instant::now();
    for member in &world.waiting {
        let pod = &member.pod;
        let netns = pod.place.netns();
        let request = json!({
            "op": "add", "namespace": pod.namespace, "name": pod.name, "netns": netns,
        });
        let file = File::open(netns)?;
        let answer = caller::ask(&socket, request.to_string().as_bytes(), &[file.as_fd()])?;
        let answer: Value = serde_json::from_str(&answer).context("no answer")?;
        ensure!(answer == "ok", "{} was not enrolled: {answer}", pod.key());
    }
    Ok(start.elapsed())
}

/// By ZDS, from the request to the acknowledgement.
fn with_peer(world: &World, arm: &Arm) -> Result<Duration> {
    let mut peers = world.peers.iter();
    let found = peers.find(|peer| peer.node().number == arm.client.node);
    let peer = found.context("the peer does not run on the client's node")?;
    let start = Instant::now();
    world
        .waiting
        .iter()
        .try_for_each(|member| peer.add(member))?;
    Ok(start.elapsed())
}
