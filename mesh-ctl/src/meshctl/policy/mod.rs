//! `meshctl policy`: what policies do, answered by the engine that agents decide with.
//!
//! Live, an agent is asked. Offline, a directory is read and compiled as a controller would, and what comes
//! out is decoded as an agent would: the answer is the agent's.

mod diff;
mod explain;
mod lint;
mod offline;

use clap::Subcommand;

use super::output::{Format, Output};
use super::{CliError, Exit, Session};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether one workload would reach another, and why
    Explain(explain::Args),
    /// Find policies that do not do what they seem to
    Lint(lint::Args),
    /// Show which connections a change of policies would allow or deny
    Diff(diff::Args),
}

/// Does it.
pub async fn run(command: &PolicyCommand, session: &Session) -> Result<Exit, CliError> {
    match command {
        PolicyCommand::Explain(args) => explain::run(args, session).await,
        PolicyCommand::Lint(args) => lint::run(args, &session.output),
        PolicyCommand::Diff(args) => diff::run(args, &session.output),
    }
}

/// Shows `value` as JSON or YAML if that was asked for, or else the text.
fn show(
    output: &Output,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), CliError> {
    match output.format() {
        Some(Format::Json) => output.json(value),
        Some(Format::Yaml) => output.yaml(value),
        None | Some(Format::Table | Format::Wide) => output.write(text().as_bytes()),
    }
}
