//! The agent's admin endpoints: what they say, and what may be changed.

use anyhow::Result;
use lab::mesh::Mesh;
use lab::peer::{Client, Server};
use lab::serial::serial;
use lab::wait;
use mesh_common::admin::{
    AgentStatus, CertificateStatus, ConnectionStatus, Direction, KeyExchange, Logging,
};
use serde_json::Value;

#[test]
fn a_connection_is_seen_at_both_ends() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    mesh.add_policy("shop", "everybody", "action: ALLOW\nrules: [{}]\n")?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let mut busy = Client::start(&client, echo.address, &["busy", "1"])?;
    busy.wait_for("busy")?;
    let identity = |name: &str| Some(format!("spiffe://cluster.local/ns/shop/sa/{name}"));
    for (node, direction) in [(1, Direction::Outbound), (2, Direction::Inbound)] {
        let all: Vec<ConnectionStatus> = mesh.agent(node)?.admin("/connections")?;
        let [it] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(it.direction, direction);
        for (party, name) in [(&it.source, "client"), (&it.destination, "server")] {
            assert_eq!(party.namespace.as_deref(), Some("shop"));
            assert_eq!(party.workload.as_deref(), Some(name));
            assert_eq!(
                party.identity.as_ref().map(ToString::to_string),
                identity(name)
            );
        }
        assert_eq!(it.source.address.ip(), client.v4);
        assert_eq!(it.destination.address, echo.address);
        assert_eq!(it.security, "mutual_tls");
        assert!(it.bytes_from_client > 0 && it.bytes_to_client > 0, "{it:?}");
        let verdict = it
            .verdict
            .as_ref()
            .map(|v| (&*v.action, v.policy.as_deref(), v.rule));
        let decided = ("allow", Some("shop/everybody"), Some(0));
        assert_eq!(
            verdict,
            (direction == Direction::Inbound).then_some(decided)
        );

        let status: AgentStatus = mesh.agent(node)?.admin("/status")?;
        assert_eq!(
            (&*status.node, status.ready),
            (&*format!("node{node}"), true)
        );
        assert!(status.controller.connected);
        assert_eq!((status.pods, status.connections), (1, 1));
        assert_eq!(
            status.tunnels,
            usize::from(direction == Direction::Outbound)
        );

        let certificates: Vec<CertificateStatus> = mesh.agent(node)?.admin("/certificates")?;
        let [it] = certificates.as_slice() else {
            panic!("{certificates:?}")
        };
        assert!(it.valid && it.last_error.is_none());
        let roles: Vec<_> = it.chain.iter().map(|c| &*c.role).collect();
        assert_eq!(
            (roles.first(), roles.last()),
            (Some(&"leaf"), Some(&"root"))
        );
        assert_eq!(it.chain[0].name, it.identity.as_str());
        assert!(
            it.chain
                .iter()
                .all(|c| !c.serial.is_empty() && c.not_before < c.not_after)
        );
        let agreed = KeyExchange {
            group: "X25519MLKEM768".into(),
            tunnels: 1,
        };
        assert_eq!(it.key_exchanges, [agreed]);
    }
    drop(busy);
    for node in [1, 2] {
        wait::until_true("the connection to be gone", wait::DEADLINE, || {
            let all: Vec<ConnectionStatus> = mesh.agent(node)?.admin("/connections")?;
            Ok(all.is_empty())
        })?;
    }
    // The lists are those of the dump.
    let dump: Value = mesh.agent(1)?.admin("/config_dump")?;
    for list in ["workloads", "services", "policies", "pods"] {
        let alone: Value = mesh.agent(1)?.admin(&format!("/{list}"))?;
        assert_eq!(alone, dump[list], "{list}");
    }
    let policies = dump["policies"].as_array().cloned().unwrap_or_default();
    let named = |policy: &Value| policy["name"] == "everybody";
    assert!(policies.iter().any(named), "{policies:?}");
    Ok(())
}

#[test]
fn what_is_logged_is_changed_while_the_agent_runs() -> Result<()> {
    let _one = serial();
    let mesh = Mesh::start(1, None)?;
    let agent = mesh.agent(1)?;
    assert_eq!(agent.admin::<Logging>("/logging")?.filter, "info");
    for (body, said) in [
        (
            r#"{"filter": "debg"}"#,
            "\"debg\" in the filter is no level",
        ),
        (r#"{"filter": "mesh_node=loud"}"#, "is malformed"),
        (r#"{"filter": ""}"#, "the filter is empty"),
        (r#"{"level": "debug"}"#, "unknown field `level`"),
        ("debug", "the body must be"),
    ] {
        let answer = agent.put("/logging", body)?;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(said), "{body}: {}", answer.body);
        assert_eq!(answer.body.lines().count(), 1, "{}", answer.body);
    }
    assert_eq!(agent.admin::<Logging>("/logging")?.filter, "info");

    let debug = |agent: &lab::agent::Agent| agent.output().contains("a new state is in force");
    mesh.config.namespace("shop", true)?;
    mesh.add_policy("shop", "the-first", "action: ALLOW\n")?;
    assert!(!debug(agent), "debug lines are logged from the start");
    let filter = "info,mesh_node::state=debug";
    let answer = agent.put("/logging", &format!("{{\"filter\": \"{filter}\"}}"))?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(agent.admin::<Logging>("/logging")?.filter, filter);
    mesh.add_policy("shop", "the-second", "action: ALLOW\n")?;
    wait::until_true("a debug line", wait::DEADLINE, || Ok(debug(agent)))
}
