//! `meshctl policy diff`: which connections a change allows or denies, before it is applied.
//!
//! Both directories are compiled and judged by the engine of the agents. The connections are those that a
//! file declares, those that an access log has seen, or else every service account with every port of every
//! workload.

mod effect;
mod flows;
mod observed;
mod pairs;
mod report;
mod text;

use std::path::PathBuf;

use effect::Judge;
use report::Report;

use super::offline::{MeshOptions, Offline};
use crate::meshctl::output::Output;
use crate::meshctl::{CliError, Exit};

/// What to compare, for which connections.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing changes, 1 an error, 2 a wrong command line, 5 something \
    changes"
)]
pub struct Args {
    /// Directory of Kubernetes YAML as it is applied now
    old: PathBuf,
    /// Directory as it would be
    new: PathBuf,
    /// File of connections to judge: YAML, a list of {from, to, port}, or CSV with a line from,to,port first.
    /// Names are as for explain
    #[arg(long, value_name = "FILE")]
    flows: Option<PathBuf>,
    /// Access log of agents (JSON lines): judge the connections that it has seen; may be given more than once
    #[arg(long, value_name = "FILE")]
    observed: Vec<PathBuf>,
    #[command(flatten)]
    mesh: MeshOptions,
}

/// Compares.
pub(super) fn run(args: &Args, output: &Output) -> Result<Exit, CliError> {
    let old = Offline::load(&args.old, &args.mesh)?;
    let new = Offline::load(&args.new, &args.mesh)?;
    let judge = Judge::new(&old.snapshot, &new.snapshot);
    let mut report = Report::default();
    if let Some(file) = &args.flows {
        flows::compare(&flows::read(file)?, file, &judge, &mut report)?;
    }
    if !args.observed.is_empty() {
        observed::compare(&observed::read(&args.observed)?, &judge, &mut report);
    }
    if args.flows.is_none() && args.observed.is_empty() {
        pairs::compare(&old, &new, &judge, &mut report)?;
    }
    report.finish(&old, &new);
    super::show(output, &report, || text::render(&report, output))?;
    Ok(match report.changes.is_empty() {
        true => Exit::Success,
        false => Exit::Findings,
    })
}

/// The content of a file that the operator names.
fn content(file: &std::path::Path) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "run as a user who may read it",
            _ => "check that it is a text file",
        };
        CliError::Failed(format!("{}: cannot read it: {e}; {remedy}", file.display()))
    })
}
