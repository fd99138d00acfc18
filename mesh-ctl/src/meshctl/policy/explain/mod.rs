//! `meshctl policy explain`: would A reach B, and why?

mod live;
mod text;

use std::path::PathBuf;

use mesh_common::question::{Answer, Outcome, Question, QuestionError, answer};

use super::offline::{MeshOptions, Offline};
use crate::meshctl::{CliError, Exit, Session};

/// What is asked, and of whom.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 allowed, 1 an error, 2 a wrong command line, 4 an unknown name, 5 \
    denied (all of the connections, or some)"
)]
pub struct Args {
    /// The client: NAMESPACE/SERVICE-ACCOUNT, NAMESPACE/POD or an address; sa:, pod: or ip: before it says
    /// which
    #[arg(long, value_name = "NAME")]
    pub from: String,
    /// The server: NAMESPACE/POD, NAMESPACE/SERVICE, a service's hostname or an address; pod:, svc:, host: or
    /// ip: before it says which
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// The port that the client dials
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Directory of Kubernetes YAML to answer from; without it an agent is asked
    #[arg(short = 'f', long = "file", value_name = "DIR")]
    pub directory: Option<PathBuf>,
    #[command(flatten)]
    mesh: MeshOptions,
}

/// Explains.
pub(super) async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let question = Question {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port,
    };
    let (answer, said_by) = match &args.directory {
        Some(directory) => {
            let offline = Offline::load(directory, &args.mesh)?;
            (offline_answer(&offline, &question)?, None)
        }
        None => {
            let (node, answer) = live::ask(&session.reach, &question).await?;
            (answer, Some(node))
        }
    };
    let output = &session.output;
    super::show(output, &answer, || {
        text::render(&answer, said_by.as_deref(), output)
    })?;
    Ok(match answer.outcome {
        Outcome::Allowed => Exit::Success,
        Outcome::Denied | Outcome::Mixed => Exit::Findings,
    })
}

fn offline_answer(offline: &Offline, question: &Question) -> Result<Answer, CliError> {
    let mut answer = answer(&offline.snapshot, question).map_err(|e| refused(&e, offline))?;
    let origins = answer.policies().into_iter().map(str::to_owned);
    answer.origins = origins
        .filter_map(|policy| offline.origin(&policy).map(|origin| (policy, origin)))
        .collect();
    Ok(answer)
}

fn refused(error: &QuestionError, offline: &Offline) -> CliError {
    match error {
        QuestionError::Unknown { .. } if offline.snapshot.workloads().next().is_none() => {
            CliError::NotFound(format!(
                "{error}: the directory has no pod with an address; add what `kubectl get pods,services -A \
                 -o yaml` prints"
            ))
        }
        QuestionError::Unknown { .. } | QuestionError::NoPort { .. } => {
            CliError::NotFound(error.to_string())
        }
        QuestionError::Malformed { .. } | QuestionError::Ambiguous { .. } => {
            CliError::Usage(error.to_string())
        }
    }
}
