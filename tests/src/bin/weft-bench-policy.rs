//! The benchmark of the policy decision. Exit code 0: everything was measured. 2: something could not be.

use anyhow::{Context as _, Result};
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures what a policy decision costs.
#[derive(Parser)]
struct Cli {
    /// How often everything is measured; a published report takes at least 5.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let report = lab::bench::policy(cli.rounds)?;
    if let Some(file) = &cli.json {
        let text = serde_json::to_string_pretty(&report)?;
        if file == Path::new("-") {
            println!("{text}");
            return Ok(());
        }
        fs::write(file, format!("{text}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    print!("{}", report.table());
    Ok(())
}
