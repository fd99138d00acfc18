//! What applications may rely on when their bytes go through the mesh.

use anyhow::{Context as _, Result};
use lab::mesh::Mesh;
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::usage::resident;
use lab::wait;
use std::net::SocketAddr;
use std::time::Duration;

const MINUTES: Duration = Duration::from_secs(240);
const GIB: &str = "1073741824";

#[test]
fn a_gibibyte_each_way_arrives_unchanged() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let check = Server::start(&server, server.v4.into(), 7001, &["check", "42"])?;
    let source = Server::start(&server, server.v6.into(), 7002, &["source", GIB, "43"])?;
    let mark = mesh.agent(2)?.access_log().mark();
    let sent = peer::client(&client, check.address, &["send", GIB, "42"], MINUTES)?;
    assert_eq!(sent, format!("answer {GIB}"));
    let received = peer::client(&client, source.address, &["receive", GIB, "43"], MINUTES)?;
    assert_eq!(received, format!("received {GIB}"));
    let log = mesh.agent(2)?.access_log();
    let logged = log.wait(mark, "the upload", |e| e.bytes_recv == 1 << 30)?;
    assert!(logged.is_mutual_tls());
    log.wait(mark, "the download", |e| {
        e.bytes_sent == 1 << 30 && e.is_mutual_tls()
    })?;
    Ok(())
}

#[test]
fn two_hundred_connections_in_random_pieces_do_not_mix() -> Result<()> {
    let _one = serial();
    let (_mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let done = peer::client(&client, echo.address, &["many", "200", "300000"], MINUTES)?;
    assert_eq!(done, "echoed 200");
    Ok(())
}

#[test]
fn each_side_may_end_first_and_the_other_goes_on() -> Result<()> {
    let _one = serial();
    let (_mesh, client, server) = Mesh::pair()?;
    // The client ends first: the answer comes after its end.
    let check = Server::start(&server, server.v4.into(), 7001, &["check", "5"])?;
    let sent = peer::client(&client, check.address, &["send", "3000000", "5"], MINUTES)?;
    assert_eq!(sent, "answer 3000000");
    // The server ends first: the client's stream comes after that.
    let mut closing = Server::start(
        &server,
        server.v4.into(),
        7002,
        &["close-first", "3000000", "6"],
    )?;
    let sent = peer::client(
        &client,
        closing.address,
        &["send-after-eof", "3000000", "6"],
        MINUTES,
    )?;
    assert_eq!(sent, "sent after closing");
    closing.wait_for("3000000 eof")
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() -> Result<()> {
    let _one = serial();
    let (_mesh, client, server) = Mesh::pair()?;
    let resetting = Server::start(&server, server.v4.into(), 7001, &["reset-after", "5"])?;
    let seen = peer::client(&client, resetting.address, &["watch", "5"], MINUTES)?;
    assert_eq!(seen, "0 reset", "the server's reset");
    let mut watching = Server::start(&server, server.v4.into(), 7002, &["watch"])?;
    let mut resets = Client::start(&client, watching.address, &["reset", "5"])?;
    resets.go_on()?;
    resets.wait_for("we reset")?;
    watching.wait_for(" reset")
}

#[test]
fn a_refused_connection_is_reset_at_once() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let nobody = SocketAddr::new(server.v4.into(), 7999);
    let mark = mesh.agent(1)?.access_log().mark();
    let seen = peer::client(&client, nobody, &["watch", "0"], MINUTES)?;
    assert_eq!(seen, "0 reset");
    let logged = mesh
        .agent(1)?
        .access_log()
        .wait(mark, "the refusal", |e| e.error.is_some())?;
    assert_eq!(logged.response_flags.as_deref(), Some("CONNECT"));
    Ok(())
}

#[test]
fn a_slow_reader_stops_the_sender_and_not_the_agents() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let stall = Server::start(&server, server.v4.into(), 7001, &["stall"])?;
    let echo = Server::start(&server, server.v4.into(), 7002, &["echo"])?;
    // What a first connection costs is not this test's subject.
    peer::client(&client, echo.address, &["many", "4", "100000"], MINUTES)?;
    let agents = [1, 2].map(|node| mesh.agent(node).ok().and_then(lab::agent::Agent::pid));
    let before = agents.map(|pid| pid.map_or(Ok(0), resident));
    let limit: u64 = 256 << 20;
    let mut push = Client::start(&client, stall.address, &["push", &limit.to_string(), "3"])?;
    push.wait_for("taken ")?;
    let taken = push.output();
    let taken: u64 = taken.trim().trim_start_matches("taken ").parse()?;
    assert!(taken < limit, "the sender was never stopped");
    // Stream window 4 MiB, send queue, socket buffers: well below this, and far below `limit`.
    let allowed = 32 << 20;
    for (pid, before) in agents.into_iter().zip(before) {
        let grown = resident(pid.context("no agent")?)?.saturating_sub(before?);
        assert!(
            grown < allowed,
            "an agent grew by {grown} bytes for one stalled connection"
        );
    }
    // The tunnel that the stalled connection shares still carries others.
    assert_eq!(
        peer::client(&client, echo.address, &["many", "8", "1000000"], MINUTES)?,
        "echoed 8"
    );
    Ok(())
}

#[test]
fn small_messages_to_a_slow_reader_do_not_cost_the_tunnel() -> Result<()> {
    let _one = serial();
    let (_mesh, client, server) = Mesh::pair()?;
    let stall = Server::start(&server, server.v4.into(), 7001, &["stall"])?;
    let echo = Server::start(&server, server.v4.into(), 7002, &["echo"])?;
    let mut idle = Client::start(&client, echo.address, &["idle"])?;
    idle.wait_for("connected")?;
    let mut push = Client::start(&client, stall.address, &["push-small", "2000000", "3"])?;
    push.wait_for("taken ")?;
    assert_eq!(
        peer::client(&client, echo.address, &["many", "8", "100000"], MINUTES)?,
        "echoed 8"
    );
    assert!(
        !idle.output().contains("reset"),
        "another stream of the tunnel was lost"
    );
    Ok(())
}

#[test]
fn a_client_that_never_sends_is_served_and_let_go() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let mut watch = Server::start(&server, server.v4.into(), 7001, &["watch"])?;
    let mut idle = Client::start(&client, watch.address, &["idle"])?;
    idle.wait_for("connected")?;
    let live = || Ok(mesh.agent(2)?.config_dump()?.contains("\"connections\":[{"));
    wait::until_true("the connection to be live", wait::DEADLINE, live)?;
    drop(idle);
    watch.wait_for("0 ")?;
    wait::until_true("the connection to be gone", wait::DEADLINE, || Ok(!live()?))
}
