//! `meshctl version`: of this program, and of what it reaches.

use mesh_common::admin::AgentStatus;
use mesh_common::admin::controller::ControllerReport;
use serde::Serialize;

use crate::meshctl::output::{Column, Table};
use crate::meshctl::reach::{Answers, ReachError, Unreachable};
use crate::meshctl::{CliError, Exit, Session};

/// The version of this program.
pub const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the version of meshctl; asks nobody
    #[arg(long)]
    pub client: bool,
}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controllers: Vec<Version>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<Version>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Version {
    name: String,
    version: String,
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let mut versions = Versions {
        client: CLIENT,
        controllers: Vec::new(),
        agents: Vec::new(),
        unreachable: Vec::new(),
    };
    let mut exit = Exit::Success;
    if !args.client {
        match servers(session).await {
            Ok((controllers, agents)) => {
                versions.controllers = named(&controllers);
                versions.agents = named(&agents);
                versions.unreachable = [controllers.unreachable, agents.unreachable].concat();
            }
            // There may be no mesh at all; what is known is shown.
            Err(error @ ReachError::NoKubeconfig(_)) => eprintln!("note: {error}"),
            Err(error @ ReachError::NoSuchNode(..)) => return Err(error.into()),
            Err(error) => {
                eprintln!("warning: {error}");
                exit = Exit::Partial;
            }
        }
    }
    for one in &versions.unreachable {
        eprintln!("warning: {one}");
        exit = Exit::Partial;
    }
    let mut table = Table::new(&[
        Column::text("COMPONENT"),
        Column::text("NAME"),
        Column::text("VERSION"),
    ]);
    table.row(["meshctl".into(), "".into(), CLIENT.into()]);
    for (component, list) in [
        ("controller", &versions.controllers),
        ("agent", &versions.agents),
    ] {
        for Version { name, version } in list {
            table.row([
                component.into(),
                name.as_str().into(),
                version.as_str().into(),
            ]);
        }
    }
    session.output.show(&versions, [&table])?;
    Ok(exit)
}

type Servers = (Answers<String>, Answers<String>);

async fn servers(session: &Session) -> Result<Servers, ReachError> {
    let controllers = session.reach.controllers(async |peer| {
        let report: ControllerReport = peer.get("/status").await?;
        Ok(report.version)
    });
    let controllers = controllers.await?;
    let agents = session.reach.agents(async |peer| {
        let status: AgentStatus = peer.get("/status").await?;
        Ok(status.version)
    });
    let agents = match agents.await {
        Err(ReachError::NoNodeUrl) => Answers::default(),
        other => other?,
    };
    Ok((controllers, agents))
}

fn named(answers: &Answers<String>) -> Vec<Version> {
    let one = |(name, version): &(String, String)| Version {
        name: name.clone(),
        version: version.clone(),
    };
    answers.of.iter().map(one).collect()
}
