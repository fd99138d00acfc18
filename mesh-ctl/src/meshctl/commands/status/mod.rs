//! `meshctl status`: whether agents and controllers are there, ready and in agreement.

mod sync;
mod tables;
mod warnings;

use std::time::SystemTime;

use mesh_common::admin::controller::ControllerReport;
use mesh_common::admin::{AgentStatus, CertificateStatus};
use serde::Serialize;

use crate::meshctl::output::Tone;
use crate::meshctl::reach::{Answers, ReachError, Role, Unreachable};
use crate::meshctl::{CliError, Exit, Session};

use super::again::Again;
use sync::Sync;

/// What to show, and what the exit code says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End with 5 when there is a warning, for monitoring
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    again: Again,
}

/// An agent that answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Agent {
    #[serde(flatten)]
    status: AgentStatus,
    /// As the controller that it is connected to sees it.
    sync: Sync,
    #[serde(skip)]
    certificates: Vec<CertificateStatus>,
}

/// A controller that answered.
#[derive(Clone, Debug, Serialize)]
struct Controller {
    name: String,
    #[serde(flatten)]
    report: ControllerReport,
}

/// All that is known.
#[derive(Clone, Debug, Default, Serialize)]
struct Status {
    controllers: Vec<Controller>,
    agents: Vec<Agent>,
    unreachable: Vec<Unreachable>,
    warnings: Vec<String>,
}

/// Shows it.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let once = async || once(args, session).await;
    args.again.run(&session.output, once).await
}

async fn once(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let (controllers, agents) = ask(session).await?;
    let unreachable = [&*controllers.unreachable, &agents.unreachable].concat();
    if controllers.of.is_empty() && agents.of.is_empty() {
        return Err(ReachError::NoneAnswered(unreachable).into());
    }
    let controllers = controllers.of.into_iter();
    let controllers: Vec<_> = controllers
        .map(|(name, report)| Controller { name, report })
        .collect();
    let agents = agents.of.into_iter();
    let agents: Vec<_> = agents
        .map(|(_, (status, certificates))| Agent {
            sync: Sync::of(&status, &controllers),
            status,
            certificates,
        })
        .collect();
    let now = SystemTime::now();
    let status = Status {
        warnings: warnings::all(&controllers, &agents, now),
        controllers,
        agents,
        unreachable,
    };
    show(&status, session, now)?;
    Ok(
        match (status.unreachable.is_empty(), status.warnings.is_empty()) {
            (false, _) => Exit::Partial,
            (true, false) if args.exit_code => Exit::Findings,
            (true, _) => Exit::Success,
        },
    )
}

type Asked = (
    Answers<ControllerReport>,
    Answers<(AgentStatus, Vec<CertificateStatus>)>,
);

async fn ask(session: &Session) -> Result<Asked, ReachError> {
    let controllers = session
        .reach
        .controllers(async |controller| controller.get("/status").await);
    let agents = session.reach.agents(async |agent| {
        let status: AgentStatus = agent.get("/status").await?;
        let certificates: Vec<CertificateStatus> = agent.get("/certificates").await?;
        Ok((status, certificates))
    });
    let (controllers, agents) = futures::join!(controllers, agents);
    let agents = match agents {
        // Only the controller was named.
        Err(ReachError::NoNodeUrl) => Answers::default(),
        other => other?,
    };
    Ok((controllers?, agents))
}

fn show(status: &Status, session: &Session, now: SystemTime) -> Result<(), CliError> {
    let output = &session.output;
    let mut tables = Vec::new();
    let lost = |one: &Unreachable| one.role == Role::Controller;
    if !status.controllers.is_empty() || status.unreachable.iter().any(lost) {
        tables.push(tables::controllers(status, now));
    }
    tables.push(tables::agents(status, now));
    output.show(status, &tables)?;
    if output.is_table() && !status.warnings.is_empty() {
        let title = output.tinted(Tone::Doubtful, "Warnings:");
        let lines: String = status.warnings.iter().map(|w| format!("  {w}\n")).collect();
        output.write(format!("\n{title}\n{lines}").as_bytes())?;
    }
    for one in &status.unreachable {
        eprintln!("warning: {one}");
    }
    Ok(())
}
