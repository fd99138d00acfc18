//! `meshctl config-dump`: all that agents know, for programs and for bug reports.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::meshctl::lists::List;
use crate::meshctl::output::{Cell, Column, Format, Table};
use crate::meshctl::{CliError, Exit, Session};

/// The parts that a table counts.
const LISTS: [&str; 6] = [
    "workloads",
    "services",
    "policies",
    "certificates",
    "pods",
    "connections",
];

#[derive(Debug, Serialize)]
struct OfNode {
    node: String,
    #[serde(flatten)]
    dump: Map<String, Value>,
}

/// Shows it: as JSON unless another form is asked for; a table only counts.
pub async fn run(session: &Session) -> Result<Exit, CliError> {
    let answers = session
        .reach
        .agents(async |agent| agent.get::<Map<String, Value>>("/config_dump").await);
    let answers = answers.await?.some()?;
    answers.warn();
    let exit = answers.exit();
    let one = |(node, dump): (String, Map<String, Value>)| OfNode { node, dump };
    let items: Vec<_> = answers.of.into_iter().map(one).collect();
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    match session.output.format() {
        None | Some(Format::Json) => session.output.json(&list)?,
        Some(_) => session.output.show(&list, [&table(&items)])?,
    }
    Ok(exit)
}

fn table(items: &[OfNode]) -> Table {
    let mut table = Table::new(&[
        Column::text("NODE"),
        Column::number("WORKLOADS"),
        Column::number("SERVICES"),
        Column::number("POLICIES"),
        Column::number("CERTIFICATES"),
        Column::number("PODS"),
        Column::number("CONNECTIONS"),
    ]);
    for OfNode { node, dump } in items {
        let counts = LISTS.iter().map(|list| {
            let list = dump.get(*list).and_then(Value::as_array);
            Cell::maybe(list.map(|list| list.len().to_string()))
        });
        table.row(std::iter::once(node.as_str().into()).chain(counts));
    }
    table
}
