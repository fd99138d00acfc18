//! `meshctl certificates`: the identities that agents hold certificates for.

use std::time::SystemTime;

use mesh_common::admin::{CertificateStatus, ChainCertificate};
use serde::Serialize;

use crate::meshctl::lists::{Filter, List, Named};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::{CliError, Exit, Session, expiry, text};

const WHAT: [&str; 2] = ["identity", "certificates"];

/// Which to show; the name is a service account, NAMESPACE/SERVICE-ACCOUNT or a SPIFFE ID.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
}

#[derive(Clone, Debug, Serialize)]
struct Held {
    node: String,
    #[serde(flatten)]
    status: CertificateStatus,
}

impl Named for Held {
    fn namespaces(&self) -> Vec<&str> {
        vec![self.status.identity.namespace()]
    }

    fn names(&self) -> Vec<&str> {
        let identity = &self.status.identity;
        vec![
            identity.service_account(),
            identity.principal(),
            identity.as_str(),
        ]
    }
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let selection = args.filter.selection(WHAT, session);
    let answers = session
        .reach
        .agents(async |agent| agent.get::<Vec<CertificateStatus>>("/certificates").await);
    let answers = answers.await?.some()?;
    answers.warn();
    let exit = answers.exit();
    let mut items = Vec::new();
    for (node, list) in answers.of {
        let of_node = |status| Held {
            node: node.clone(),
            status,
        };
        items.extend(list.into_iter().map(of_node));
    }
    items.sort_by(|a, b| (&a.node, &a.status.identity).cmp(&(&b.node, &b.status.identity)));
    let items = selection.choose(items)?;
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session
        .output
        .show(&list, [&table(&items, SystemTime::now())])?;
    Ok(exit)
}

fn table(items: &[Held], now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::text("NODE"),
        Column::text("IDENTITY"),
        Column::text("VALID"),
        Column::text("EXPIRES IN"),
        Column::text("CHAIN"),
        Column::text("KEY EXCHANGE"),
        Column::text("LAST ERROR"),
        Column::text("NOT BEFORE").wide(),
        Column::text("NOT AFTER").wide(),
        Column::text("SERIAL").wide(),
        Column::text("CHAIN EXPIRES").wide(),
    ]);
    for Held { node, status } in items {
        let leaf = status.chain.first();
        let above = status.chain.get(1..).unwrap_or_default();
        let names: Vec<_> = above
            .iter()
            .map(|c| format!("{} ({})", c.name, c.role))
            .collect();
        let ends: Vec<_> = above.iter().map(|c| c.not_after.as_str()).collect();
        let exchanges = status.key_exchanges.iter();
        let exchanges: Vec<_> = exchanges
            .map(|k| format!("{} x{}", k.group, k.tunnels))
            .collect();
        let valid = match (status.valid, &status.last_error) {
            (true, None) => Cell::new("yes", Tone::Good),
            (true, Some(_)) => Cell::new("yes", Tone::Doubtful),
            (false, _) => Cell::new("no", Tone::Bad),
        };
        table.row([
            node.as_str().into(),
            status.identity.as_str().into(),
            valid,
            leaf.map_or_else(|| "".into(), |leaf| expires(leaf, now)),
            names.join(" < ").into(),
            exchanges.join(", ").into(),
            Cell::maybe(status.last_error.as_deref()),
            Cell::maybe(leaf.map(|leaf| leaf.not_before.as_str())),
            Cell::maybe(leaf.map(|leaf| leaf.not_after.as_str())),
            Cell::maybe(leaf.map(|leaf| leaf.serial.as_str())),
            ends.join(" < ").into(),
        ]);
    }
    table
}

fn expires(certificate: &ChainCertificate, now: SystemTime) -> Cell {
    let Some(end) = text::time(&certificate.not_after) else {
        return certificate.not_after.as_str().into();
    };
    match end.duration_since(now) {
        Err(_) => Cell::new("expired", Tone::Bad),
        Ok(left) if expiry::is_near(certificate, now) => {
            Cell::new(text::duration(left), Tone::Doubtful)
        }
        Ok(left) => text::duration(left).into(),
    }
}
