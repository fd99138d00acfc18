//! `meshctl policy lint`: policies that do not do what they seem to.
//!
//! What is reported holds: a rule is called redundant or unreachable only if that is proven for every
//! connection. Much that is odd is not found.

mod finding;
mod mtls;
mod ports;
mod principals;
mod rules;
mod selectors;
mod text;
mod world;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use finding::{Code, Finding, Severity};
use serde::Serialize;
use world::World;

use super::offline::{self, MeshOptions, Offline};
use crate::meshctl::output::Output;
use crate::meshctl::{CliError, Exit};
use crate::source::{self, Problems};

/// What to check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing of severity warning or worse, 1 the directory cannot be read, \
    2 a wrong command line, 5 findings. The checks are listed in docs/policy.md."
)]
pub struct Args {
    /// Directory of Kubernetes YAML
    #[arg(short = 'f', long = "file", value_name = "DIR")]
    directory: PathBuf,
    /// Findings of severity info count too
    #[arg(long)]
    strict: bool,
    /// A check that is not made; may be given more than once
    #[arg(long, value_enum, value_name = "CODE", hide_possible_values = true)]
    allow: Vec<Code>,
    #[command(flatten)]
    mesh: MeshOptions,
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    /// How many objects were checked; none when some could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
}

/// Checks.
pub(super) fn run(args: &Args, output: &Output) -> Result<Exit, CliError> {
    let mut report = match offline::read(&args.directory, &args.mesh) {
        Ok(objects) => {
            let offline = Offline::of(objects, &args.mesh)?;
            Report {
                findings: check(&offline, &args.mesh),
                objects: Some(offline.objects.len()),
            }
        }
        Err(problems) => Report {
            findings: invalid(problems)?,
            objects: None,
        },
    };
    report
        .findings
        .retain(|found| !args.allow.contains(&found.code));
    super::show(output, &report, || text::render(&report, output))?;
    let least = match args.strict {
        true => Severity::Info,
        false => Severity::Warning,
    };
    let counts = report.findings.iter().any(|found| found.severity >= least);
    Ok(if counts {
        Exit::Findings
    } else {
        Exit::Success
    })
}

/// All that is found.
fn check(offline: &Offline, mesh: &MeshOptions) -> Vec<Finding> {
    let mut world = World::new(offline, mesh);
    selectors::check(&mut world);
    rules::check(&mut world);
    principals::check(&mut world);
    ports::check(&mut world);
    mtls::check(&mut world);
    world.into_findings()
}

/// Objects that cannot be read are findings; files that cannot be read are an error.
fn invalid(problems: Problems) -> Result<Vec<Finding>, CliError> {
    if problems.0.iter().any(|problem| problem.document.is_none()) {
        return Err(offline::unreadable(&problems));
    }
    let one = |problem: source::Problem| {
        let message = problem.message.replace('\n', " ");
        let (field, what) = match message.strip_prefix("field ") {
            Some(rest) => rest.split_once(": ").unwrap_or(("", rest)),
            None => ("", message.as_str()),
        };
        let (what, remedy) = what.rsplit_once("; ").unwrap_or((what, "correct it"));
        Finding {
            file: problem.file.display().to_string(),
            document: problem.document.unwrap_or_default(),
            object: problem.object.unwrap_or_default(),
            field: field.to_owned(),
            code: Code::InvalidObject,
            severity: Code::InvalidObject.severity(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        }
    };
    Ok(problems.0.into_iter().map(one).collect())
}
