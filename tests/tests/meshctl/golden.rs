//! What every command shows.

use crate::normal;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use lab::serial::serial;
use std::fmt::Write as _;
use std::path::Path;

/// Commands that show things, each in all forms.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["workloads"],
    &["services"],
    &["policies"],
    &["certificates"],
    &["connections"],
    &["log"],
    &["version"],
];
/// Filters, as tables.
const FILTERED: &[&[&str]] = &[
    &["workloads", "-n", "shop"],
    &["workloads", "-n", "shpo"],
    &["workloads", "-n", "shop", "-o", "wide", "client"],
    &["workloads", "bank/vault"],
    &["services", "-n", "bank"],
    &["policies", "-A", "on-trial"],
    &["certificates", "shop/client"],
    &["certificates", "spiffe://cluster.local/ns/shop/sa/server"],
    &["connections", "--direction", "inbound"],
    &["connections", "--node", "node1"],
    &["connections", "bank/vault"],
    &["status", "--exit-code"],
    &["log", "--node", "node2"],
    &["config-dump", "-o", "table"],
    &["version", "--client"],
];

fn is_updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// The command line and its normal output.
fn shown(world: &World, arguments: &[&str]) -> Result<String> {
    let output = world.meshctl(arguments)?;
    if is_updating() {
        // As docs/meshctl.md has it.
        eprintln!("$ meshctl {}\n{}", arguments.join(" "), output.stdout);
    }
    let is_json = arguments.ends_with(&["json"]);
    let normal = match is_json {
        true => normal::json(&output.stdout).with_context(|| output.stdout.clone())?,
        false => normal::table(&output.stdout),
    };
    let mut text = format!("$ meshctl {}\n{}", arguments.join(" "), normal.trim_start());
    for line in output.stderr.lines() {
        writeln!(text, "stderr: {line}")?;
    }
    match output.status.code() {
        Some(0) => {}
        code => writeln!(text, "exit code: {code:?}")?,
    }
    Ok(text)
}

fn golden(world: &World, name: &str, commands: &[Vec<&str>]) -> Result<Option<String>> {
    let texts: Result<Vec<_>> = commands.iter().map(|c| shown(world, c)).collect();
    let got = texts?.join("\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/meshctl/golden")
        .join(format!("{name}.txt"));
    if is_updating() {
        std::fs::write(&file, &got)?;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    Ok((got != expected).then(|| format!("{}: expected\n{expected}\ngot\n{got}", file.display())))
}

#[test]
fn every_command_shows_what_is_expected() -> Result<()> {
    let _one = serial();
    let world = World::new()?;
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let form = |form: &'static str| [command, &["-o", form][..]].concat();
        let forms = [command.to_vec(), form("wide"), form("json")];
        wrong.extend(golden(&world, command[0], &forms)?);
        let [json, yaml] = ["json", "yaml"].map(|f| world.meshctl(&form(f)));
        let same = normal::json(&json?.stdout)? == normal::yaml(&yaml?.stdout)?;
        assert!(
            same,
            "{command:?} says one thing in JSON and another in YAML"
        );
    }
    let filtered: Vec<_> = FILTERED.iter().map(|command| command.to_vec()).collect();
    wrong.extend(golden(&world, "filters", &filtered)?);
    ensure!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_config_dump_has_all_that_the_agents_know() -> Result<()> {
    let _one = serial();
    let world = World::new()?;
    let output = world.meshctl(&["config-dump"])?;
    ensure!(output.success(), "{}", output.summary());
    let list: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let items = list["items"].as_array().context("no items")?;
    let nodes: Vec<_> = items.iter().map(|item| &item["node"]).collect();
    assert_eq!(nodes, ["node1", "node2"]);
    for (item, agent) in items.iter().zip(&world.mesh.agents) {
        let dump: serde_json::Value = serde_json::from_str(&agent.config_dump()?)?;
        for part in ["workloads", "services", "policies", "pods"] {
            assert_eq!(item[part], dump[part], "{part}");
            assert!(!item[part].is_null(), "{part}");
        }
    }
    Ok(())
}

#[test]
fn a_completion_names_every_command() -> Result<()> {
    let _one = serial();
    let world = World::new()?;
    for shell in ["bash", "zsh", "fish"] {
        let output = world.meshctl(&["completion", shell])?;
        ensure!(output.success(), "{}", output.summary());
        for command in COMMANDS {
            assert!(output.stdout.contains(command[0]), "{shell}: {command:?}");
        }
    }
    Ok(())
}
