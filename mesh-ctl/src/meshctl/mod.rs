//! `meshctl`, the operator's window: asks agents and controllers, and shows what they say. It installs and
//! uninstalls them, too.
//!
//! What is shown goes to standard output, everything else to standard error. The exit code says how it
//! went ([`Exit`]).

pub mod cli;
pub mod commands;
mod error;
mod exit;
pub mod expiry;
pub mod install;
pub mod lists;
pub mod output;
pub mod policy;
pub mod reach;
pub mod text;

pub use error::CliError;
pub use exit::Exit;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use output::Output;
use reach::Reach;

/// What every command has at hand.
pub struct Session {
    /// The way to agents and controllers.
    pub reach: Reach,
    /// Where and how to show things.
    pub output: Output,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(e) => Err(CliError::Failed(format!("cannot start: {e}"))),
    };
    let exit = outcome.unwrap_or_else(|error| {
        // A reader that has seen enough, such as `head`, is no failure.
        if matches!(&error, CliError::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe) {
            return Exit::Success;
        }
        eprintln!("error: {error}");
        error.exit()
    });
    exit.into()
}

async fn run(cli: Cli) -> Result<Exit, CliError> {
    let session = Session {
        reach: Reach::new(cli.reach),
        output: Output::new(&cli.output),
    };
    match &cli.command {
        Command::Status(args) => commands::status::run(args, &session).await,
        Command::Workloads(args) => commands::workloads::run(args, &session).await,
        Command::Services(args) => commands::services::run(args, &session).await,
        Command::Policies(args) => commands::policies::run(args, &session).await,
        Command::Policy(command) => policy::run(command, &session).await,
        Command::Connections(args) => commands::connections::run(args, &session).await,
        Command::Certificates(args) => commands::certificates::run(args, &session).await,
        Command::Log(args) => commands::log::run(args, &session).await,
        Command::ConfigDump => commands::config_dump::run(&session).await,
        Command::Install(args) => install::run(args, &session).await,
        Command::Uninstall(args) => install::uninstall::run(args, &session).await,
        Command::Version(args) => commands::version::run(args, &session).await,
        Command::Completion(args) => commands::completion::run(args, &session.output),
    }
}
