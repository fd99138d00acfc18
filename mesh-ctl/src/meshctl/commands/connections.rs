//! `meshctl connections`: what is open now, at either end.

use clap::ValueEnum;
use mesh_common::admin::{ConnectionStatus, Direction, PartyStatus};
use mesh_common::identity::SpiffeId;
use serde::Serialize;

use crate::meshctl::lists::{Filter, List, Named, Object, Selection};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::reach::Answers;
use crate::meshctl::{CliError, Exit, Session, text};

use super::again::Again;
use super::views::Workload;

const WHAT: [&str; 2] = ["workload", "connections"];

/// Which to show; namespace and name are those of the workload at either end.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Only those of which this end is on the node
    #[arg(long, value_enum)]
    direction: Option<End>,
    #[command(flatten)]
    again: Again,
}

/// Which end of a connection is on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum End {
    /// The server's
    Inbound,
    /// The client's
    Outbound,
}

#[derive(Clone, Debug, Serialize)]
struct Live {
    node: String,
    #[serde(flatten)]
    status: ConnectionStatus,
}

impl Named for Live {
    fn namespaces(&self) -> Vec<&str> {
        self.of_both(|party| party.namespace.as_deref())
    }

    fn names(&self) -> Vec<&str> {
        self.of_both(|party| party.workload.as_deref())
    }
}

impl Live {
    fn of_both(&self, part: fn(&PartyStatus) -> Option<&str>) -> Vec<&str> {
        let both = [&self.status.source, &self.status.destination];
        both.into_iter().filter_map(part).collect()
    }

    /// Name and namespace must be those of one end, not of one each.
    fn is_wanted(&self, selection: &Selection) -> bool {
        let both = [&self.status.source, &self.status.destination];
        both.into_iter()
            .any(|party| selection.matches(&Party(party)))
    }
}

struct Party<'a>(&'a PartyStatus);

impl Named for Party<'_> {
    fn namespaces(&self) -> Vec<&str> {
        self.0.namespace.as_deref().into_iter().collect()
    }

    fn names(&self) -> Vec<&str> {
        self.0.workload.as_deref().into_iter().collect()
    }
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let once = async || once(args, session).await;
    args.again.run(&session.output, once).await
}

async fn once(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let selection = args.filter.selection(WHAT, session);
    let answers = session
        .reach
        .agents(async |agent| agent.get::<Vec<ConnectionStatus>>("/connections").await);
    let mut answers = answers.await?.some()?;
    answers.warn();
    let items = sorted(&mut answers);
    let is_wanted = |live: &Live| {
        let inbound = live.status.direction == Direction::Inbound;
        let end = args
            .direction
            .is_none_or(|end| (end == End::Inbound) == inbound);
        end && live.is_wanted(&selection)
    };
    let items: Vec<Live> = items.into_iter().filter(is_wanted).collect();
    if items.is_empty() && selection.name().is_some() {
        exists(&selection, session).await?;
    }
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session.output.show(&list, [&table(&items)])?;
    Ok(answers.exit())
}

/// By node, then by direction and addresses: a connection keeps its place.
fn sorted(answers: &mut Answers<Vec<ConnectionStatus>>) -> Vec<Live> {
    let mut items = Vec::new();
    for (node, list) in std::mem::take(&mut answers.of) {
        let of_node = |status| Live {
            node: node.clone(),
            status,
        };
        items.extend(list.into_iter().map(of_node));
    }
    items.sort_by_cached_key(|live| {
        let s = &live.status;
        let outbound = s.direction == Direction::Outbound;
        (
            live.node.clone(),
            outbound,
            s.source.address,
            s.destination.address,
        )
    });
    items
}

/// A workload without connections is no wrong name.
async fn exists(selection: &Selection, session: &Session) -> Result<(), CliError> {
    let answers = session
        .reach
        .agents(async |agent| agent.get::<Vec<Object<Workload>>>("/workloads").await);
    let lists = answers.await?.some()?.of;
    selection
        .choose(crate::meshctl::lists::merge(lists))
        .map(drop)
}

fn table(items: &[Live]) -> Table {
    let mut table = Table::new(&[
        Column::text("NODE"),
        Column::text("DIRECTION"),
        Column::text("SOURCE"),
        Column::text("SOURCE IDENTITY"),
        Column::text("DESTINATION"),
        Column::text("DESTINATION IDENTITY"),
        Column::text("SECURITY"),
        Column::text("VERDICT"),
        Column::number("SENT"),
        Column::number("RECEIVED"),
        Column::number("AGE"),
        Column::text("SOURCE ADDRESS").wide(),
        Column::text("DESTINATION ADDRESS").wide(),
        Column::text("SERVICE").wide(),
        Column::text("POLICY").wide(),
        Column::text("REASON").wide(),
    ]);
    for Live { node, status: s } in items {
        let verdict = s.verdict.as_ref();
        table.row([
            node.as_str().into(),
            match s.direction {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            }
            .into(),
            party(&s.source),
            Cell::maybe(s.source.identity.as_ref().map(SpiffeId::principal)),
            party(&s.destination),
            Cell::maybe(s.destination.identity.as_ref().map(SpiffeId::principal)),
            security(&s.security),
            verdict.map_or_else(
                || "".into(),
                |v| {
                    Cell::new(
                        &*v.action,
                        if v.action == "allow" {
                            Tone::Good
                        } else {
                            Tone::Bad
                        },
                    )
                },
            ),
            text::bytes(s.bytes_from_client).into(),
            text::bytes(s.bytes_to_client).into(),
            text::seconds(s.age_seconds).into(),
            s.source.address.to_string().into(),
            s.destination.address.to_string().into(),
            Cell::maybe(s.service.as_deref()),
            Cell::maybe(verdict.and_then(|v| {
                let rule = v
                    .rule
                    .map_or_else(String::new, |rule| format!(" rule {rule}"));
                v.policy.as_ref().map(|policy| format!("{policy}{rule}"))
            })),
            Cell::maybe(verdict.map(|v| v.reason.as_str())),
        ]);
    }
    table
}

/// The workload and port, or the address where none is known.
fn party(party: &PartyStatus) -> Cell {
    match (&party.namespace, &party.workload) {
        (Some(namespace), Some(workload)) => {
            format!("{namespace}/{workload}:{}", party.address.port()).into()
        }
        _ => party.address.to_string().into(),
    }
}

fn security(security: &str) -> Cell {
    let tone = match security {
        "mutual_tls" => Tone::Good,
        "none" => Tone::Doubtful,
        _ => Tone::Plain,
    };
    Cell::new(security, tone)
}
