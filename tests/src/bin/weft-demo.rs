//! The demo: two nodes, real applications, and a table of what the mesh did to their connections.
//!
//! Exit code 0: every row holds. 1: a row does not hold. 2: the demo could not be run.

use anyhow::Result;
use clap::Parser;
use lab::agent::Sabotage;
use lab::{demo, janitor};
use std::process::ExitCode;

/// Runs the mesh on two nodes with real applications and prints what it did.
#[derive(Parser)]
struct Cli {
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// Leave the lab up at the end and print how to enter each pod.
    #[arg(long)]
    keep: bool,
    /// Break the agents on purpose: rows must fail.
    #[arg(long)]
    sabotage: Option<Sabotage>,
    /// Remove the labs that were left behind, and do nothing else.
    #[arg(long)]
    clean: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = if cli.clean { clean() } else { run(&cli) };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn clean() -> Result<bool> {
    for (id, removed) in janitor::sweep()? {
        removed?;
        eprintln!("demo: removed {id}");
    }
    Ok(true)
}

fn run(cli: &Cli) -> Result<bool> {
    let (world, report) = demo::run(cli.sabotage)?;
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    let failed = report.failed();
    if failed.is_empty() {
        eprintln!("demo: all {} rows are as expected", report.len());
    } else {
        let verb = if cli.sabotage.is_some() {
            "the sabotage was caught by"
        } else {
            "failed"
        };
        eprintln!("demo: {verb}: {}", failed.join("; "));
    }
    if cli.keep {
        eprintln!(
            "demo: {} stays up until the next demo or test; to enter a pod:",
            world.mesh.lab.id()
        );
        for (pod, command) in world.entrances() {
            eprintln!("  {pod}: {command}");
        }
        eprintln!("demo: to remove it now: cargo xtask demo --clean");
        world.keep();
    }
    Ok(failed.is_empty())
}
