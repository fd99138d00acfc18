//! The data plane's benchmark: Weft, no mesh, and any other node proxy, side by side on one machine.
//!
//! Exit code 0: everything was measured. 2: something could not be.

use anyhow::Result;
use clap::Parser;
use lab::bench::{self, Options, PeerPath};
use std::process::ExitCode;

/// Measures the data plane against no mesh and against another node proxy.
#[derive(Parser)]
struct Cli {
    /// Another node proxy that speaks ZDS and takes ztunnel's variables.
    #[arg(long, value_name = "NAME=PATH")]
    peer: Option<PeerPath>,
    /// How often every load runs for every contender; a published report takes at least 5.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each run is measured, seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only loads whose name begins so, for example `bulk-1,rtt-64b`.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    only: Vec<String>,
    /// Only these contenders, for example `direct,weft`.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    contenders: Vec<String>,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
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
    let outcome = bench::run(&Options {
        peer: cli.peer,
        rounds: cli.rounds,
        seconds: cli.seconds,
        only: cli.only,
        contenders: cli.contenders,
    })?;
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
        return Ok(());
    }
    for row in &outcome.rows {
        println!(
            "{:24} {:18} {:12.3} {:12.3} {:12.3} {}",
            row.metric, row.contender, row.median, row.min, row.max, row.unit
        );
    }
    for ratio in &outcome.ratios {
        println!(
            "{:24} {} / {}: {:.2}",
            ratio.metric, ratio.contender, ratio.against, ratio.ratio
        );
    }
    Ok(())
}
