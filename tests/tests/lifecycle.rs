//! Agents and controllers that die, come back, or are not there yet: nothing leaks, nothing is lost.

use anyhow::{Result, ensure};
use lab::agent::Agent;
use lab::capture::Capture;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::tokens::Claims;
use lab::{Pod, wait};
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// One request over a new connection.
fn works(client: &Pod, server: SocketAddr) -> bool {
    peer::client(client, server, &["many", "1", "1000"], LIMIT).is_ok_and(|line| line == "echoed 1")
}

#[test]
fn a_dead_agent_leaves_its_pods_closed_and_its_successor_takes_them_up() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    ensure!(
        works(&client, echo.address),
        "it does not work to begin with"
    );
    for dead in [1, 2] {
        let mut wire = Capture::wire(&mesh.lab)?;
        mesh.agent_mut(dead)?.kill()?;
        for _ in 0..20 {
            assert!(
                !works(&client, echo.address),
                "a connection passed with agent {dead} dead"
            );
        }
        assert_eq!(
            wire.trace()?.packets_on_port(7001),
            0,
            "plaintext with agent {dead} dead"
        );
        wire.stop()?;
        mesh.agent_mut(dead)?.restart()?;
        // No pod was enrolled again by hand.
        wait::until_true("connections to work again", wait::DEADLINE, || {
            Ok(works(&client, echo.address))
        })?;
    }
    Ok(())
}

#[test]
fn the_mesh_goes_on_without_its_controller() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    ensure!(
        works(&client, echo.address),
        "it does not work to begin with"
    );
    mesh.controller.kill()?;
    assert!(works(&client, echo.address));
    wait::until_true(
        "the agent to say that the controller is gone",
        wait::DEADLINE,
        || {
            Ok(mesh
                .agent(1)?
                .config_dump()?
                .contains("\"connected\":false"))
        },
    )?;
    assert!(
        works(&client, echo.address),
        "the last good state was given up"
    );
    mesh.controller.restart()?;
    // A change made after the restart arrives.
    mesh.add_policy("shop", "nobody", "action: DENY\nrules: [{}]\n")?;
    assert!(!works(&client, echo.address));
    mesh.remove_policy("shop", "nobody")?;
    assert!(works(&client, echo.address));
    Ok(())
}

#[test]
fn a_policy_change_reaches_live_connections_and_only_those_it_denies() -> Result<()> {
    let _one = serial();
    let (mut mesh, alice, server) = Mesh::pair()?;
    let bob = mesh.add_enrolled(&PodSpec::named(1, "shop", "bob"))?;
    let watch = Server::start(&server, server.v4.into(), 7001, &["watch"])?;
    let mut from_alice = Client::start(&alice, watch.address, &["idle"])?;
    let mut from_bob = Client::start(&bob, watch.address, &["idle"])?;
    for client in [&mut from_alice, &mut from_bob] {
        client.wait_for("connected")?;
    }
    let live = |n: usize| {
        let inbound = "\"direction\":\"inbound\"";
        Ok(mesh.agent(2)?.config_dump()?.matches(inbound).count() == n)
    };
    wait::until_true("two live connections", wait::DEADLINE, || live(2))?;
    let mark = mesh.agent(2)?.access_log().mark();
    let no_bob =
        "action: DENY\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/bob]}\n";
    mesh.add_policy("shop", "no-bob", no_bob)?;
    from_bob.wait_for("0 reset")?;
    wait::until_true("one live connection", wait::DEADLINE, || live(1))?;
    assert!(
        !from_alice.output().contains("reset"),
        "a connection that is allowed was closed"
    );
    let closed = mesh
        .agent(2)?
        .access_log()
        .wait(mark, "the revocation", |e| {
            e.is_denied() && e.is_between("bob", "server")
        })?;
    assert_eq!(closed.policy.as_deref(), Some("shop/no-bob"));
    Ok(())
}

#[test]
fn an_unenrolled_pod_is_as_if_it_had_never_been_in() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("shop", true)?;
    let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
    let server = mesh.add_pod(&PodSpec::named(2, "shop", "server"))?;
    mesh.config.namespace("shop", false)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let agent = mesh.agent(1)?;
    let mark = agent.access_log().mark();
    ensure!(
        wait::until_true("passthrough", wait::DEADLINE, || Ok(works(
            &client,
            echo.address
        )))
        .is_ok()
    );
    agent
        .access_log()
        .wait(mark, "the captured connection", |e| {
            e.src_workload.as_deref() == Some("client")
        })?;
    agent.unenroll(&client)?;
    let mark = agent.access_log().mark();
    assert!(works(&client, echo.address));
    assert_eq!(agent.list()?, serde_json::json!([]));
    for port in [15001, 15006, 15008] {
        let address = SocketAddr::new(client.v4.into(), port);
        assert!(
            peer::client(&client, address, &["watch", "0"], LIMIT).is_err(),
            "port {port} is still open in the pod"
        );
    }
    agent.enroll(&client)?;
    assert!(works(&client, echo.address));
    agent
        .access_log()
        .wait(mark, "the captured connection", |e| {
            e.src_workload.as_deref() == Some("client")
        })?;
    // The log is in order: one captured while the pod was out would stand before this one.
    assert_eq!(
        agent.access_log().since(mark)?.len(),
        1,
        "captured while out"
    );
    let twice = agent.unenroll(&server).unwrap_err();
    assert!(
        format!("{twice:#}").contains("shop/server is not enrolled"),
        "{twice:#}"
    );
    Ok(())
}

#[test]
fn an_agent_waits_for_a_controller_that_is_not_there_yet() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    mesh.controller.kill()?;
    mesh.agent_mut(1)?.kill()?;
    let agent = mesh.agent_mut(1)?;
    agent.spawn()?;
    wait::until_true("a line about the controller", wait::DEADLINE, || {
        Ok(agent
            .output()
            .lines()
            .any(|l| l.contains("WARN") && l.contains("controller")))
    })?;
    assert!(
        !works(&client, echo.address),
        "a pod was open before its agent knew any policy"
    );
    mesh.controller.restart()?;
    wait::until_true("connections to work", wait::DEADLINE, || {
        Ok(works(&client, echo.address))
    })
}

#[test]
fn a_token_that_the_controller_does_not_accept_is_named() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(1, None)?;
    mesh.agent_mut(1)?.kill()?;
    let wrong = Claims {
        audience: "somebody-else",
        ..Claims::agent("node1")
    };
    let token = mesh.issuer.token(&wrong)?;
    let agent: &mut Agent = mesh
        .agents
        .first_mut()
        .ok_or_else(|| anyhow::anyhow!("no agent"))?;
    std::fs::write(agent.node().dir.join("token"), token)?;
    agent.spawn()?;
    wait::until_true("a line that names the token", wait::DEADLINE, || {
        Ok(agent
            .output()
            .lines()
            .any(|l| l.contains("WARN") && l.contains("audience")))
    })?;
    assert!(
        mesh.controller.output().contains("node1"),
        "the controller does not say who called"
    );
    Ok(())
}
