//! `mesh-controller`: see `mesh-controller --help`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, FromArgMatches, Subcommand};
use mesh_ctl::ca::command::Step;
use mesh_ctl::config::Config;
use mesh_ctl::controller::Controller;
use mesh_ctl::memory;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What the command line asks for.
enum Invocation {
    Serve(Box<Config>),
    Ca(Step),
}

impl Invocation {
    fn parse() -> Result<Self, clap::Error> {
        let ca = clap::Command::new("ca")
            .about("Show the certificate authority, or change its root step by step")
            .subcommand_required(true);
        let matches = Config::command()
            .subcommand(Step::augment_subcommands(ca))
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .try_get_matches()?;
        match matches.subcommand() {
            Some((_, step)) => Step::from_arg_matches(step).map(Self::Ca),
            None => Config::from_arg_matches(&matches)
                .map(Box::new)
                .map(Self::Serve),
        }
    }
}

/// Gives memory back to the system soon: a first sync to many nodes takes much for a short time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = Invocation::parse().unwrap_or_else(|e| e.exit());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = memory::runtime()
        .context("cannot start the threads of the controller")
        .and_then(|runtime| match invocation {
            Invocation::Ca(step) => runtime.block_on(ca(&step)),
            Invocation::Serve(config) => runtime.block_on(run(*config)),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // One line for each problem.
            for line in format!("{e:#}").lines() {
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
    let mut controller = Controller::start(config).await?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        part = controller.failed() => Some(part),
    };
    tracing::info!("shutting down");
    controller.shutdown().await;
    match failed {
        // Half a controller would go on saying what held once.
        Some(part) => anyhow::bail!(
            "{part} ended unexpectedly; see the log above; start the controller again"
        ),
        None => Ok(()),
    }
}

fn wait_for(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).map_err(|e| anyhow::anyhow!("cannot wait for signal {}: {e}", kind.as_raw_value()))
}
