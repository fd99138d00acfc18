//! An agent that does not answer, and names that are wrong.

use crate::world::World;
use anyhow::{Context as _, Result};
use lab::serial::serial;

const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["workloads"],
    &["services"],
    &["policies"],
    &["certificates"],
    &["connections"],
    &["log"],
    &["log", "info"],
    &["config-dump"],
    &["version"],
];
const GONE: &str = "warning: agent http://10.88.0.2:15000: cannot connect: Connection refused; check that it runs, \
                    and its --admin-addr\n";

#[test]
fn an_agent_that_does_not_answer_is_named_and_the_rest_is_shown() -> Result<()> {
    let _one = serial();
    let mut world = World::new()?;
    world.mesh.agent_mut(2)?.kill()?;
    for command in COMMANDS {
        let output = world.meshctl(command)?;
        assert_eq!(output.stderr, GONE, "{command:?}");
        assert!(!output.stdout.is_empty(), "{command:?}");
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        let output = world.meshctl(&[command, &["-o", "json"][..]].concat())?;
        let shown: serde_json::Value = serde_json::from_str(&output.stdout)?;
        let unreachable = &shown["unreachable"][0];
        assert_eq!(
            unreachable["target"], "http://10.88.0.2:15000",
            "{command:?}"
        );
    }
    let status = world.meshctl(&["status"])?.stdout;
    let row = status.lines().find(|line| line.contains("10.88.0.2:15000"));
    assert!(row.context("no row for the agent")?.contains("unreachable"));
    // Who asks for the one that is there misses nothing.
    let output = world.meshctl(&["connections", "--node", "node1"])?;
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), ""));

    world.mesh.agent_mut(1)?.kill()?;
    for command in COMMANDS {
        let output = world.meshctl(command)?;
        assert!(
            output
                .stderr
                .contains("agent http://10.88.0.1:15000: cannot connect"),
            "{command:?}"
        );
        // These two also show what the controller says.
        let expected = if matches!(command[0], "status" | "version") {
            3
        } else {
            1
        };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{command:?}: {}",
            output.stderr
        );
        assert_eq!(output.stdout.is_empty(), expected == 1, "{command:?}");
    }
    world.mesh.controller.kill()?;
    let output = world.meshctl(&["status"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.starts_with("error: all 3 failed:\n"),
        "{}",
        output.stderr
    );
    Ok(())
}

#[test]
fn a_wrong_name_suggests_the_nearest() -> Result<()> {
    let _one = serial();
    let world = World::new()?;
    for (command, message) in [
        (
            &["workloads", "clinet"][..],
            "there is no workload \"clinet\"; did you mean \"client\"?",
        ),
        (
            &["workloads", "-n", "bank", "client"],
            "there is no workload \"client\" in namespace bank; there is one in namespace shop",
        ),
        (
            &["services", "ecko"],
            "there is no service \"ecko\"; did you mean \"echo\"?",
        ),
        (
            &["policies", "only-clients"],
            "there is no policy \"only-clients\"; did you mean \"only-client\"?",
        ),
        (
            &["certificates", "shop/sever"],
            "there is no identity \"sever\" in namespace shop; did you mean \"server\"?",
        ),
        (
            &["connections", "sever"],
            "there is no workload \"sever\"; did you mean \"server\"?",
        ),
        (
            &["status", "--node", "node7"],
            "there is no agent on a node \"node7\"; did you mean \"node1\"?",
        ),
        (
            &["config-dump", "--node", "nod2"],
            "there is no agent on a node \"nod2\"; did you mean \"node2\"?",
        ),
        (
            &["log", "--node", "elsewhere", "debug"],
            "there is no agent on a node \"elsewhere\"",
        ),
        (
            &["version", "--node", "node3"],
            "there is no agent on a node \"node3\"; did you mean \"node1\"?",
        ),
    ] {
        let output = world.meshctl(command)?;
        assert_eq!(output.stderr, format!("error: {message}\n"), "{command:?}");
        assert_eq!(output.status.code(), Some(4), "{command:?}");
    }
    let output = world.meshctl(&["conections"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("'connections'"), "{}", output.stderr);
    Ok(())
}

#[test]
fn what_is_wrong_with_the_mesh_is_a_warning() -> Result<()> {
    let _one = serial();
    let mut world = World::new()?;
    world.mesh.controller.kill()?;
    lab::wait::until_true("the agents to notice", lab::wait::DEADLINE, || {
        let status = world.meshctl(&["status", "-o", "json"])?.stdout;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let lost = status["agents"].as_array().context("no agents")?;
        Ok(lost.iter().all(|agent| agent["sync"] == "disconnected"))
    })?;
    let output = world.meshctl(&["status"])?;
    for node in ["node1", "node2"] {
        let warning = format!(
            "  {node}: not connected to the controller https://10.88.0.1:15012; it serves a \
                               state that is "
        );
        assert!(output.stdout.contains(&warning), "{}", output.stdout);
    }
    assert_eq!(
        output.stderr,
        "warning: controller http://127.0.0.1:15014: cannot connect: Connection refused; check that it runs, and its \
         --admin-addr\n"
    );
    assert_eq!(output.status.code(), Some(3));
    // Nobody is missing, and not all is well.
    let output = world.meshctl(&["status", "--exit-code", "--node", "node1"])?;
    assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
    Ok(())
}
