//! What operators see: the log lines and metrics of both ends, and the agent's own state.

use anyhow::{Context as _, Result};
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Server};
use lab::serial::serial;
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The value of the one sample of `name` that has all these labels.
fn sample(text: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let wanted = |line: &&str| line.starts_with(name) && labels.iter().all(|l| line.contains(l));
    let mut found = text.lines().filter(wanted);
    let line = found
        .next()
        .with_context(|| format!("no {name} with {labels:?} in:\n{text}"))?;
    assert_eq!(found.next(), None, "a second {name} with {labels:?}");
    let value = line.rsplit(' ').next().context("no value")?;
    Ok(value.parse()?)
}

#[test]
fn both_ends_tell_the_same_story() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("shop", true)?;
    let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
    let server = mesh.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let done = peer::client(&client, echo.address, &["many", "3", "50000"], LIMIT)?;
    assert_eq!(done, "echoed 3");

    let start = lab::access_log::Mark::default();
    let mine = |e: &lab::access_log::Entry| e.is_between("client", "server");
    let sent = mesh
        .agent(1)?
        .access_log()
        .wait(start, "the client's line", mine)?;
    let same = |e: &lab::access_log::Entry| mine(e) && e.traceparent == sent.traceparent;
    let received = mesh
        .agent(2)?
        .access_log()
        .wait(start, "the server's line", same)?;
    assert!(sent.traceparent.is_some());
    assert_eq!(
        (&*sent.direction, &*received.direction),
        ("outbound", "inbound")
    );
    for line in [&sent, &received] {
        assert!(line.is_mutual_tls());
        assert_eq!((line.bytes_sent, line.bytes_recv), (50_000, 50_000));
        let identity = |name: &str| Some(format!("spiffe://cluster.local/ns/shop/sa/{name}"));
        assert_eq!(line.src_identity, identity("client"));
        assert_eq!(line.dst_identity, identity("server"));
        assert_eq!(line.dst_addr, Some(echo.address.to_string()));
        assert_eq!(line.dst_hbone_addr, Some(format!("{}:15008", server.v4)));
    }
    assert_eq!(
        sent.src_addr, received.src_addr,
        "the client's own address at both ends"
    );
    assert_eq!(
        (sent.verdict, received.verdict.as_deref()),
        (None, Some("allow"))
    );

    let labels = [
        "source_workload=\"client\"",
        "destination_workload=\"server\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "destination_workload_namespace=\"shop\"",
        "request_protocol=\"tcp\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_flags=\"-\"",
    ];
    for (node, reporter) in [(1, "reporter=\"source\""), (2, "reporter=\"destination\"")] {
        let text = mesh.agent(node)?.metrics()?;
        let labels = [&labels[..], &[reporter]].concat();
        for (name, value) in [
            ("istio_tcp_connections_opened_total", 3.0),
            ("istio_tcp_sent_bytes_total", 150_000.0),
            ("istio_tcp_received_bytes_total", 150_000.0),
        ] {
            assert_eq!(sample(&text, name, &labels)?, value, "{name} {reporter}");
        }
        let closed = sample(&text, "istio_tcp_connections_closed_total", &labels)?;
        assert!((1.0..=3.0).contains(&closed), "{closed} closed");
        assert!(text.trim_end().ends_with("# EOF"), "not OpenMetrics");
    }
    let text = mesh.agent(1)?.metrics()?;
    let redirected = ["program=\"connect\"", "reason=\"redirect"];
    assert!(sample(&text, "weft_steering_decisions", &redirected)? >= 3.0);
    assert_eq!(sample(&text, "weft_enrolled_pods", &[])?, 1.0);
    Ok(())
}

#[test]
fn the_config_dump_shows_what_the_agent_knows() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(1, None)?;
    mesh.config.namespace("shop", true)?;
    let web = mesh.add_enrolled(&PodSpec::named(1, "shop", "web"))?;
    mesh.add_policy("shop", "somebody", "action: ALLOW\nrules: [{}]\n")?;
    let agent = mesh.agent(1)?;
    lab::wait::until_true("the pod to be ready", lab::wait::DEADLINE, || {
        Ok(agent.list()?[0]["ready"] == true)
    })?;
    let dump: Value = serde_json::from_str(&agent.config_dump()?)?;
    let has = |list: &str, key: &str, value: &str| {
        let items = dump[list].as_array().cloned().unwrap_or_default();
        assert!(
            items.iter().any(|i| i[key] == value),
            "no {key} {value} in {list}: {items:?}"
        );
    };
    has("workloads", "uid", "Kubernetes//Pod/shop/web");
    has("policies", "name", "somebody");
    has("pods", "name", &web.name);
    has(
        "certificates",
        "identity",
        "spiffe://cluster.local/ns/shop/sa/web",
    );
    assert_eq!(dump["controller"]["connected"], true);
    Ok(())
}

#[test]
fn policies_that_enforce_nothing_are_reported() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let of_client = "from:\n  - source: {principals: [cluster.local/ns/shop/sa/client]}\n";
    mesh.add_policy(
        "shop",
        "watched",
        &format!("action: AUDIT\nrules:\n- {of_client}"),
    )?;
    mesh.add_policy(
        "shop",
        "watched-others",
        "action: AUDIT\nrules:\n- to:\n  - operation: {ports: [\"9999\"]}\n",
    )?;
    let done = peer::client(&client, echo.address, &["many", "1", "1000"], LIMIT)?;
    assert_eq!(done, "echoed 1", "an AUDIT policy denies nothing");
    let start = lab::access_log::Mark::default();
    let mine = |e: &lab::access_log::Entry| e.is_between("client", "server");
    let line = mesh.agent(2)?.access_log().wait(start, "the line", mine)?;
    assert_eq!(line.verdict.as_deref(), Some("allow"));
    let expected = serde_json::json!({"policy": "shop/watched", "rule": 0});
    assert_eq!(line.audit, [expected]);
    assert_eq!(line.dry_run, Value::Null);

    let mark = mesh.agent(2)?.access_log().mark();
    let denying = format!("action: DENY\nrules:\n- {of_client}");
    let annotations = [("istio.io/dry-run", "true")];
    mesh.config
        .policy_with("shop", "on-trial", &annotations, &denying)?;
    for agent in &mesh.agents {
        agent.wait_for("on-trial", true)?;
    }
    let done = peer::client(&client, echo.address, &["many", "1", "1000"], LIMIT)?;
    assert_eq!(done, "echoed 1", "a policy in dry run denies nothing");
    let line = mesh.agent(2)?.access_log().wait(mark, "the line", mine)?;
    assert_eq!(line.verdict.as_deref(), Some("allow"));
    assert_eq!(line.dry_run["verdict"], "deny");
    assert_eq!(line.dry_run["policy"], "shop/on-trial");
    Ok(())
}
