//! The data plane's benchmark: Weft, no mesh, and any other node proxy, side by side on one machine.
//!
//! Exit code 0: everything was measured. 1: a proxy grew under a soak. 2: something could not be
//! measured.

use anyhow::{Context as _, Result};
use clap::Parser;
use lab::bench::report::Report;
use lab::bench::{self, Options, PeerPath};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures the data plane against no mesh and against another node proxy.
#[derive(Parser)]
struct Cli {
    /// Another node proxy that speaks ZDS and takes ztunnel's variables.
    #[arg(long, value_name = "NAME=PATH")]
    peer: Option<PeerPath>,
    /// How often everything is measured for every contender; a published report takes at least 5.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each run is measured, seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only what has a name that begins so, for example `bulk-1,rtt-64b,memory-idle`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Only these contenders, for example `direct,weft`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    contenders: Vec<String>,
    /// Instead, load one contender, weft unless --contenders says another, for so long in every way at
    /// once, and fail when its proxies grow.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["rounds", "seconds", "only"])]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=1440))]
    soak: Option<u32>,
    /// Instead, count what the agents' threads cost each other, with 1, 2, 4 and 8 of them.
    #[arg(long, conflicts_with_all = ["peer", "only", "contenders", "soak"])]
    scaling: bool,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write a plot of the main figures to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let options = Options {
        peer: cli.peer,
        rounds: cli.rounds,
        seconds: cli.seconds,
        only: cli.only,
        contenders: cli.contenders,
    };
    let report = if let Some(minutes) = cli.soak {
        let soaked = bench::soak(minutes, &options)?;
        for growth in &soaked.grown {
            eprintln!("bench: growth: {growth}");
            code = ExitCode::from(1);
        }
        soaked.report
    } else if cli.scaling {
        bench::scaling(options.rounds, options.seconds)?
    } else {
        bench::compare(&options)?
    };
    print(&report, cli.json.as_deref(), cli.svg.as_deref())?;
    Ok(code)
}

fn print(report: &Report, json: Option<&Path>, svg: Option<&Path>) -> Result<()> {
    if let Some(file) = svg {
        write(file, &bench::plot(report))?;
    }
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(report)?;
        if file == Path::new("-") {
            println!("{text}");
            return Ok(());
        }
        write(file, &format!("{text}\n"))?;
    }
    print!("{}", report.table());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
