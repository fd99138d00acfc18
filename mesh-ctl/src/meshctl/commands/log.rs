//! `meshctl log`: what agents log, shown and changed while they run.

use mesh_common::admin::Logging;
use serde::Serialize;

use crate::meshctl::lists::List;
use crate::meshctl::output::{Column, Table};
use crate::meshctl::{CliError, Exit, Session};

/// What to change, on the nodes that --node names or on all.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What agents log from now on, until they are restarted: a level (error, warn, info, debug, trace), and
    /// levels of parts, such as `info,mesh_node::hbone=debug`; without it nothing is changed
    level: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct OfNode {
    node: String,
    #[serde(flatten)]
    logging: Logging,
}

/// Changes and shows it.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let answers = session.reach.agents(async |agent| match &args.level {
        Some(filter) => {
            let wanted = Logging {
                filter: filter.clone(),
            };
            agent.put("/logging", &wanted).await
        }
        None => agent.get::<Logging>("/logging").await,
    });
    let answers = answers.await?.some()?;
    answers.warn();
    let one = |(node, logging): &(String, Logging)| OfNode {
        node: node.clone(),
        logging: logging.clone(),
    };
    let items: Vec<_> = answers.of.iter().map(one).collect();
    let mut table = Table::new(&[Column::text("NODE"), Column::text("LEVEL")]);
    for OfNode { node, logging } in &items {
        table.row([node.as_str().into(), logging.filter.as_str().into()]);
    }
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session.output.show(&list, [&table])?;
    Ok(answers.exit())
}
