//! `meshctl completion`: a script for the shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::meshctl::cli::Cli;
use crate::meshctl::output::Output;
use crate::meshctl::{CliError, Exit};

/// What to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, output: &Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshctl", &mut script);
    output.write(&script)?;
    Ok(Exit::Success)
}
