//! An agent that is replaced or killed under load: nothing is refused, nothing leaks.

use anyhow::{Context as _, Result, ensure};
use lab::capture::Capture;
use lab::mesh::Mesh;
use lab::peer::{Client, Server};
use lab::serial::serial;
use lab::wait;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SWAPS: usize = 10;
const DRAIN: &str = "5s";

#[test]
fn swaps_under_load_drop_no_new_connection_and_old_ones_live_until_the_deadline() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair_with(&[("drain-deadline", DRAIN)])?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let mut wire = Capture::wire(&mesh.lab)?;
    let mut load = Client::start(&client, echo.address, &["say-again", "weft-swap"])?;
    load.wait_for("connected")?;
    for node in [1, 2] {
        // Through the agent that is about to be replaced.
        let mut talk = Client::start(&client, echo.address, &["talk", "weft-talk"])?;
        talk.wait_for("connected")?;
        talk.go_on()?;
        talk.wait_for("heard")?;
        let mut old = mesh.agent_mut(node)?.succeed()?;
        talk.go_on()?;
        wait::until_true("an answer over the old connection", wait::DEADLINE, || {
            Ok(talk.output().matches("heard").count() == 2)
        })
        .with_context(|| format!("node {node}: {}", talk.output()))?;
        ensure!(
            old.exited()?.is_none(),
            "node {node}: the old agent left while it had a connection"
        );
        let ended = old.wait(LIMIT)?;
        ensure!(ended.success(), "node {node}: the old agent: {ended}");
        talk.go_on()?;
        talk.end(LIMIT)?;
        for _ in 1..SWAPS / 2 {
            let mut old = mesh.agent_mut(node)?.succeed()?;
            old.wait(LIMIT)?;
        }
    }
    load.go_on()?;
    let counts = load.end(LIMIT)?;
    let line = counts.lines().last().unwrap_or_default().to_owned();
    println!("{SWAPS} swaps: {line}");
    ensure!(line.contains(" done, 0 failed"), "{line}");
    ensure!(!line.starts_with("0 "), "no connection was made: {line}");
    let trace = wire.trace()?;
    ensure!(
        trace.packets_on_port(7001) == 0 && !trace.contains(b"weft-swap"),
        "plaintext on the wire"
    );
    for agent in &mesh.agents {
        let listed = agent.list()?;
        ensure!(
            listed.as_array().is_some_and(|pods| pods.len() == 1),
            "{listed}"
        );
    }
    Ok(())
}

#[test]
fn a_crash_delays_connections_while_a_keeper_holds_the_listeners() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start_with_keepers(2)?;
    let (client, server) = mesh.add_pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let mut wire = Capture::wire(&mesh.lab)?;
    for dead in [1, 2] {
        mesh.agent_mut(dead)?.kill()?;
        let waiting = (0..20)
            .map(|_| Client::start(&client, echo.address, &["talk", "weft-crash"]))
            .collect::<Result<Vec<_>>>()?;
        let mut waiting = waiting;
        for client in &mut waiting {
            // The kernel has taken the connection; nobody serves it yet.
            client.wait_for("connected")?;
            client.go_on()?;
        }
        ensure!(
            waiting
                .iter()
                .all(|client| !client.output().contains("heard")),
            "a connection passed with agent {dead} dead"
        );
        ensure!(
            wire.trace()?.packets_on_port(7001) == 0,
            "plaintext with agent {dead} dead"
        );
        mesh.agent_mut(dead)?.restart()?;
        for client in &mut waiting {
            client
                .wait_for("heard")
                .with_context(|| format!("agent {dead}"))?;
        }
    }
    ensure!(!wire.trace()?.contains(b"weft-crash"), "plaintext");
    Ok(())
}
