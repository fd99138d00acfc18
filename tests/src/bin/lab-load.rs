//! The load generator of the benchmarks. Each load prints one JSON object; a failure is told on stderr
//! and is exit code 1.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lab::load::{self, Direction, Idle, MAX_MESSAGE, Open, Server};
use serde::Serialize;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Serve every load on one port, until SIGTERM.
    Serve {
        /// The address to listen on; port 0 is any that is free.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Transfer as much as possible.
    Bulk {
        #[command(flatten)]
        target: Target,
        /// Connections.
        #[arg(long, value_parser = positive(u16::MAX.into()))]
        streams: u32,
        /// Which way the bytes go.
        #[arg(long, value_enum, default_value = "up")]
        direction: Direction,
    },
    /// Send messages there and back, one at a time on each connection.
    Rtt {
        #[command(flatten)]
        target: Target,
        /// The size of a message, in bytes.
        #[arg(long, value_parser = positive(MAX_MESSAGE.into()))]
        size: u32,
        /// Connections.
        #[arg(long, value_parser = positive(u16::MAX.into()))]
        connections: u32,
    },
    /// Open one connection after another; the server closes each after its answer.
    Connect {
        #[command(flatten)]
        target: Target,
        /// How many are on their way at a time.
        #[arg(long, value_parser = positive(u16::MAX.into()))]
        concurrency: u32,
    },
    /// Open connections and hold them until stdin closes; all must still be open then.
    Idle {
        /// The address of a `lab-load serve`.
        #[arg(long)]
        to: SocketAddr,
        /// Connections.
        #[arg(long, value_parser = positive(1 << 20))]
        connections: u32,
    },
}

#[derive(clap::Args)]
struct Target {
    /// The address of a `lab-load serve`.
    #[arg(long)]
    to: SocketAddr,
    /// The length of the measured interval, in seconds; a short warm-up comes before it.
    #[arg(long, value_parser = seconds)]
    seconds: Duration,
}

fn main() -> ExitCode {
    match run(Cli::parse().load) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(load: Load) -> Result<()> {
    match load {
        Load::Serve { listen } => {
            let server = Server::bind(listen)?;
            print(&serde_json::json!({ "listening": server.address()? }))?;
            server.run()
        }
        Load::Bulk {
            target,
            streams,
            direction,
        } => {
            let streams = streams as usize;
            print(&load::bulk(target.to, streams, target.seconds, direction)?)
        }
        Load::Rtt {
            target,
            size,
            connections,
        } => {
            let connections = connections as usize;
            print(&load::rtt(target.to, size, connections, target.seconds)?)
        }
        Load::Connect {
            target,
            concurrency,
        } => {
            let concurrency = concurrency as usize;
            print(&load::connect(target.to, concurrency, target.seconds)?)
        }
        Load::Idle { to, connections } => {
            let idle = Idle::open(to, connections as usize)?;
            print(&Open { open: idle.len() })?;
            std::io::stdin()
                .read_to_end(&mut Vec::new())
                .context("cannot wait for the end of stdin")?;
            idle.check()
        }
    }
}

fn print(outcome: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, outcome).context("cannot print the outcome")?;
    writeln!(stdout)?;
    stdout.flush().context("cannot print the outcome")
}

fn positive(most: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=most)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|e| format!("{e}"))?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("0.1 to 3600 seconds are possible".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}
