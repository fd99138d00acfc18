//! The controller's benchmark. Exit code 0: everything was measured. 2: something could not be.

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lab::bench::ControllerOptions;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures how soon nodes know of a change, and what the controller costs.
#[derive(Parser)]
struct Cli {
    /// How many pods there are.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    workloads: Vec<u32>,
    /// How many nodes there are.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=10_000))]
    nodes: Vec<u32>,
    /// How often everything is measured; a published report takes at least 5.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many pods change in a round.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let (report, failed) = lab::bench::controller(&ControllerOptions {
        workloads: cli.workloads,
        nodes: cli.nodes,
        rounds: cli.rounds,
        changes: cli.changes,
    })?;
    if let Some(file) = cli.json {
        let text = serde_json::to_string_pretty(&report)?;
        if file == Path::new("-") {
            println!("{text}");
            return complete(&failed);
        }
        fs::write(&file, format!("{text}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    print!("{}", report.table());
    complete(&failed)
}

fn complete(failed: &[String]) -> Result<()> {
    ensure!(
        failed.is_empty(),
        "{} rounds failed, the rest is in the report",
        failed.len()
    );
    Ok(())
}
