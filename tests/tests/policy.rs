//! Policy on connections that are open: a change closes what it denies, at both ends, and nothing else.

use anyhow::{Context as _, Result, ensure};
use lab::access_log::{Entry, Mark};
use lab::agent::Agent;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::{Pod, wait};
use mesh_common::admin::{ConnectionStatus, Direction};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const LIMIT: Duration = Duration::from_secs(60);
/// From the state's arrival at the agents to the close.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// Connections of one client: idle ones, and ones that never pause.
struct Connections {
    idle: Vec<Client>,
    busy: Vec<Client>,
}

impl Connections {
    fn open(client: &Pod, watch: &Server, echo: &Server) -> Result<Self> {
        let idle = (0..3).map(|_| Client::start(client, watch.address, &["idle"]));
        let busy = (1..=2)
            .map(|seed: u8| Client::start(client, echo.address, &["busy", &seed.to_string()]));
        let mut all = Self {
            idle: idle.collect::<Result<_>>()?,
            busy: busy.collect::<Result<_>>()?,
        };
        all.idle
            .iter_mut()
            .try_for_each(|client| client.wait_for("connected"))?;
        all.busy
            .iter_mut()
            .try_for_each(|client| client.wait_for("busy"))?;
        Ok(all)
    }

    fn count(&self) -> usize {
        self.idle.len() + self.busy.len()
    }

    /// Waits until each was reset.
    fn are_reset(self) -> Result<()> {
        for mut client in self.idle.into_iter().chain(self.busy) {
            client.wait_for(" reset")?;
        }
        Ok(())
    }

    /// Ends each, and sees that every byte came back that was sent.
    fn lost_nothing(mut self) -> Result<()> {
        for mut client in self.busy {
            client.go_on()?;
            let said = client.end(LIMIT)?;
            ensure!(
                said.ends_with(" eof"),
                "a connection that is allowed: {said}"
            );
        }
        for client in self.idle.drain(..) {
            let said = client.output();
            ensure!(
                said.trim() == "connected",
                "a connection that is allowed: {said}"
            );
        }
        Ok(())
    }
}

fn time_of(stamp: &str) -> Result<OffsetDateTime> {
    OffsetDateTime::parse(stamp, &Rfc3339).with_context(|| format!("{stamp:?} is no time"))
}

/// When an agent last put a state in force before `at`, by its own log.
fn state_before(agent: &Agent, at: OffsetDateTime) -> Result<OffsetDateTime> {
    let output = agent.output();
    let states = output
        .lines()
        .filter(|line| line.contains("a new state is in force"));
    let stamps = states.filter_map(|line| line.split_whitespace().next());
    let times: Vec<_> = stamps.map(time_of).collect::<Result<_>>()?;
    let before = times.into_iter().filter(|time| *time <= at);
    before
        .max()
        .context("the agent does not say when it had the state")
}

/// The lines of denied connections from `source` since the mark, once there are `count`.
fn denied(agent: &Agent, mark: Mark, source: &str, count: usize) -> Result<Vec<Entry>> {
    let what = format!("{count} denied connections of {source}");
    let lines = wait::until(&what, wait::DEADLINE, || {
        let mut lines = agent.access_log().since(mark)?;
        lines.retain(|line| line.is_denied() && line.is_between(source, "server"));
        Ok((lines.len() >= count).then_some(lines))
    })?;
    ensure!(lines.len() == count, "{} lines: {lines:?}", lines.len());
    Ok(lines)
}

fn open(agent: &Agent, direction: Direction) -> Result<Vec<ConnectionStatus>> {
    let mut all: Vec<ConnectionStatus> = agent.admin("/connections")?;
    all.retain(|connection| connection.direction == direction);
    Ok(all)
}

/// Denies bob by `spec`, and sees what becomes of his connections and of alice's. Returns his lines at both ends.
fn bob_is_closed_out(name: &str, spec: &str) -> Result<(Mesh, Pod, [Vec<Entry>; 2])> {
    let (mut mesh, alice, server) = Mesh::pair()?;
    let bob = mesh.add_enrolled(&PodSpec::named(1, "shop", "bob"))?;
    let watch = Server::start(&server, server.v4.into(), 7001, &["watch"])?;
    let echo = Server::start(&server, server.v4.into(), 7002, &["echo"])?;
    let (near, far) = (mesh.agent(1)?, mesh.agent(2)?);
    for agent in [near, far] {
        let filter = r#"{"filter": "info,mesh_node::state=debug"}"#;
        let answer = agent.put("/logging", filter)?;
        ensure!(answer.status == 200, "{}", answer.body);
    }
    let of_alice = Connections::open(&alice, &watch, &echo)?;
    let of_bob = Connections::open(&bob, &watch, &echo)?;
    let (allowed, denies) = (of_alice.count(), of_bob.count());
    for (agent, direction) in [(near, Direction::Outbound), (far, Direction::Inbound)] {
        wait::until_true("all connections to be open", wait::DEADLINE, || {
            Ok(open(agent, direction)?.len() == allowed + denies)
        })?;
    }

    let marks = [near, far].map(|agent| agent.access_log().mark());
    mesh.add_policy("shop", name, spec)?;
    of_bob.are_reset()?;
    let outbound = denied(near, marks[0], "bob", denies)?;
    let inbound = denied(far, marks[1], "bob", denies)?;
    for (agent, direction) in [(near, Direction::Outbound), (far, Direction::Inbound)] {
        let open = open(agent, direction)?;
        assert_eq!(open.len(), allowed, "{open:?}");
        let alice = "spiffe://cluster.local/ns/shop/sa/client";
        let is_alice = |c: &ConnectionStatus| {
            c.source
                .identity
                .as_ref()
                .is_some_and(|id| id.as_str() == alice)
        };
        assert!(open.iter().all(is_alice), "{open:?}");
    }
    of_alice.lost_nothing()?;

    for (end, lines) in [("client", &outbound), ("server", &inbound)] {
        let mut longest = Duration::ZERO;
        for line in lines {
            let closed = time_of(&line.timestamp)?;
            let state = match end {
                // It closes when the destination does, and says why once it has the state too.
                "client" => state_before(near, closed)?.max(state_before(far, closed)?),
                _ => state_before(far, closed)?,
            };
            let took = closed - state;
            longest = longest.max(took.try_into()?);
        }
        println!(
            "{name}: {denies} connections closed at the {end}'s end within {longest:?} of the state's arrival"
        );
        assert!(longest <= CLOSED_WITHIN, "{longest:?} at the {end}'s end");
    }
    Ok((mesh, bob, [outbound, inbound]))
}

/// A line names both ends in full, and the policy.
fn names_all(line: &Entry, policy: &str, reason: &str) {
    let identity = |name: &str| Some(format!("spiffe://cluster.local/ns/shop/sa/{name}"));
    assert_eq!(line.policy.as_deref(), Some(policy), "{line:?}");
    assert_eq!(line.reason.as_deref(), Some(reason), "{line:?}");
    assert_eq!(line.src_identity, identity("bob"), "{line:?}");
    assert_eq!(line.dst_identity, identity("server"), "{line:?}");
    assert_eq!(line.response_flags.as_deref(), Some("DENY"), "{line:?}");
    for address in [&line.src_addr, &line.dst_addr] {
        let port = address
            .as_deref()
            .and_then(|a| a.rsplit(':').next()?.parse::<u16>().ok());
        assert!(port.is_some_and(|port| port > 0), "{line:?}");
    }
}

/// The value of the one sample of the decisions' counter that has all these labels; none when there is none.
fn decisions(agent: &Agent, labels: &[&str]) -> Result<Option<u64>> {
    let text = agent.metrics()?;
    let wanted = |line: &&str| {
        line.starts_with("weft_policy_decisions_total") && labels.iter().all(|l| line.contains(l))
    };
    let mut found = text.lines().filter(wanted);
    let value = found.next().and_then(|line| line.rsplit(' ').next());
    ensure!(found.next().is_none(), "a second sample with {labels:?}");
    Ok(value.map(str::parse).transpose()?)
}

#[test]
fn a_deny_policy_closes_what_it_matches_and_no_more() -> Result<()> {
    let _one = serial();
    let spec = "action: DENY\nrules:\n- from:\n  - source: {principals: [\"*/sa/nobody\"]}\n\
                - from:\n  - source: {principals: [cluster.local/ns/shop/sa/bob]}\n";
    let (mesh, bob, lines) = bob_is_closed_out("no-bob", spec)?;
    for line in lines.iter().flatten() {
        names_all(line, "shop/no-bob", "a rule of a DENY policy matched");
        assert_eq!(line.rule, Some(1));
    }
    let far = mesh.agent(2)?;
    let mine = [
        "policy=\"shop/no-bob\"",
        "rule=\"1\"",
        "action=\"deny\"",
        "dry_run=\"false\"",
    ];
    assert_eq!(decisions(far, &mine)?, Some(lines[1].len() as u64));

    // A new connection is refused, and that is said and counted likewise.
    let marks = [mesh.agent(1)?, far].map(|agent| agent.access_log().mark());
    let server = lines[0][0]
        .dst_addr
        .clone()
        .context("no address")?
        .parse()?;
    assert!(peer::client(&bob, server, &["many", "1", "1000"], LIMIT).is_err());
    for (agent, mark) in [mesh.agent(1)?, far].into_iter().zip(marks) {
        let line = &denied(agent, mark, "bob", 1)?[0];
        names_all(line, "shop/no-bob", "a rule of a DENY policy matched");
    }
    assert_eq!(decisions(far, &mine)?, Some(lines[1].len() as u64 + 1));

    mesh.remove_policy("shop", "no-bob")?;
    assert_eq!(
        decisions(far, &mine[..1])?,
        None,
        "its series outlive the policy"
    );
    Ok(())
}

#[test]
fn an_allow_policy_closes_what_it_does_not_match_and_says_what_was_missing() -> Result<()> {
    let _one = serial();
    let spec = "action: ALLOW\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/client]}\n";
    let (_mesh, _, lines) = bob_is_closed_out("only-alice", spec)?;
    for line in lines.iter().flatten() {
        names_all(
            line,
            "shop/only-alice",
            "no rule of the ALLOW policies matched",
        );
        assert_eq!(line.nearest["policy"], "shop/only-alice", "{line:?}");
        assert_eq!(line.nearest["failed"][0]["field"], "principals", "{line:?}");
    }
    Ok(())
}
