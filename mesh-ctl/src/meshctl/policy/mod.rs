//! `meshctl policy`.

use clap::Subcommand;

use super::{CliError, Exit, Session};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {}

/// Does it.
#[expect(clippy::unused_async, reason = "its commands will wait")]
pub async fn run(command: &PolicyCommand, _session: &Session) -> Result<Exit, CliError> {
    match *command {}
}
