//! `mesh-controller`: see `mesh-controller --help`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_ctl::ca::command::Step;
use mesh_ctl::config::Config;
use mesh_ctl::controller::Controller;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The Weft controller: tells every node of the mesh what runs where and who may talk to whom, and
/// signs the certificates of what runs there.
#[derive(Parser)]
#[command(
    version,
    about,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Option<Config>,
}

#[derive(Subcommand)]
enum Command {
    /// Show the certificate authority, or change its root step by step.
    Ca {
        #[command(subcommand)]
        step: Step,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match (cli.command, cli.config) {
        (Some(Command::Ca { step }), _) => ca(&step).await,
        (None, Some(config)) => run(config).await,
        (None, None) => Err(anyhow::anyhow!("no options; see --help")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // One line for each problem.
            for line in e.to_string().lines() {
                eprintln!("error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn ca(step: &Step) -> anyhow::Result<()> {
    print!("{}", step.run().await?);
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = wait_for(SignalKind::terminate())?;
    let mut interrupt = wait_for(SignalKind::interrupt())?;
    let controller = Controller::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down");
    controller.shutdown().await;
    Ok(())
}

fn wait_for(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).map_err(|e| anyhow::anyhow!("cannot wait for signal {}: {e}", kind.as_raw_value()))
}
