//! `meshctl policies`: the authorization policies that the agents enforce.

use crate::meshctl::lists::{Filter, List, Merged, Object, merge, note_exceptions};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::{CliError, Exit, Session};

use super::views::{Policy, Workload};

const WHAT: [&str; 2] = ["policy", "policies"];

/// Which to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let selection = args.filter.selection(WHAT, session);
    let answers = session.reach.agents(async |agent| {
        let policies: Vec<Object<Policy>> = agent.get("/policies").await?;
        let workloads: Vec<Object<Workload>> = agent.get("/workloads").await?;
        Ok((policies, workloads))
    });
    let answers = answers.await?.some()?;
    answers.warn();
    let exit = answers.exit();
    let (mut policies, mut workloads) = (Vec::new(), Vec::new());
    for (node, (of_node, known)) in answers.of {
        policies.push((node.clone(), of_node));
        workloads.push((node, known));
    }
    let workloads = merge(workloads);
    let selected = |policy: &Policy| {
        let views = workloads.iter().map(|workload| &workload.view);
        views.filter(|workload| policy.selects(workload)).count()
    };
    let mut items = selection.choose(merge(policies))?;
    for item in &mut items {
        let count = selected(&item.view);
        item.add("workloads", count);
    }
    note_exceptions(&items, WHAT);
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session.output.show(&list, [&table(&items, selected)])?;
    Ok(exit)
}

fn table(items: &[Merged<Policy>], selected: impl Fn(&Policy) -> usize) -> Table {
    let mut table = Table::new(&[
        Column::text("NAMESPACE"),
        Column::text("NAME"),
        Column::text("ACTION"),
        Column::text("SCOPE"),
        Column::number("RULES"),
        Column::number("WORKLOADS"),
        Column::text("ENFORCED"),
        Column::text("EXCEPT ON").wide(),
    ]);
    for item in items {
        let p = &item.view;
        let scope = match p.scope.as_str() {
            "global" => "mesh",
            other => other,
        };
        let enforced = match (p.unreadable, p.dry_run, p.action.as_str()) {
            (true, _, _) => Cell::new("unreadable: denies", Tone::Bad),
            (_, true, _) => Cell::new("no: dry run", Tone::Doubtful),
            (_, _, "audit") => "no: audit".into(),
            _ => Cell::new("yes", Tone::Good),
        };
        table.row([
            p.namespace.as_str().into(),
            p.name.as_str().into(),
            p.action.to_uppercase().into(),
            scope.into(),
            p.rules.len().to_string().into(),
            selected(p).to_string().into(),
            enforced,
            Cell::new(item.exceptions(), Tone::Doubtful),
        ]);
    }
    table
}
