//! `meshctl services`: their addresses and endpoints, as the agents know them.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::json;

use crate::meshctl::lists::{Filter, List, Listed as _, Merged, Object, merge, note_exceptions};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::{CliError, Exit, Session};

use super::views::{Port, Service, Workload};

const WHAT: [&str; 2] = ["service", "services"];

/// Which to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
}

/// How many workloads are behind a service.
#[derive(Clone, Copy, Debug, Default)]
struct Endpoints {
    all: usize,
    healthy: usize,
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let selection = args.filter.selection(WHAT, session);
    let answers = session.reach.agents(async |agent| {
        let services: Vec<Object<Service>> = agent.get("/services").await?;
        let workloads: Vec<Object<Workload>> = agent.get("/workloads").await?;
        Ok((services, workloads))
    });
    let answers = answers.await?.some()?;
    answers.warn();
    let exit = answers.exit();
    let (mut services, mut workloads) = (Vec::new(), Vec::new());
    for (node, (of_node, behind)) in answers.of {
        services.push((node.clone(), of_node));
        workloads.push((node, behind));
    }
    let mut endpoints: HashMap<String, Endpoints> = HashMap::new();
    for workload in merge(workloads) {
        for service in workload.view.services.keys() {
            let counted = endpoints.entry(service.clone()).or_default();
            counted.all += 1;
            counted.healthy += usize::from(workload.view.healthy);
        }
    }
    let of = |service: &Service| endpoints.get(&service.key()).copied().unwrap_or_default();
    let mut items = selection.choose(merge(services))?;
    for item in &mut items {
        let Endpoints { all, healthy } = of(&item.view);
        item.add("endpoints", json!({"all": all, "healthy": healthy}));
    }
    note_exceptions(&items, WHAT);
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session.output.show(&list, [&table(&items, of)])?;
    Ok(exit)
}

fn table(items: &[Merged<Service>], endpoints: impl Fn(&Service) -> Endpoints) -> Table {
    let mut table = Table::new(&[
        Column::text("NAMESPACE"),
        Column::text("NAME"),
        Column::text("HOSTNAME"),
        Column::text("ADDRESSES"),
        Column::text("PORTS"),
        Column::text("HEALTHY ENDPOINTS"),
        Column::text("BALANCING").wide(),
        Column::text("WAYPOINT").wide(),
        Column::text("EXCEPT ON").wide(),
    ]);
    for item in items {
        let s = &item.view;
        let vips: Vec<_> = s.vips.iter().map(IpAddr::to_string).collect();
        let ports: Vec<_> = s.ports.iter().map(port).collect();
        let Endpoints { all, healthy } = endpoints(s);
        let tone = match healthy {
            0 => Tone::Bad,
            _ if healthy < all => Tone::Doubtful,
            _ => Tone::Good,
        };
        let balancing = match s.load_balancing.scopes.join(",") {
            none if none.is_empty() => s.load_balancing.mode.clone(),
            scopes => format!("{}: {scopes}", s.load_balancing.mode),
        };
        table.row([
            s.namespace.as_str().into(),
            s.name.as_str().into(),
            s.hostname.as_str().into(),
            vips.join(",").into(),
            ports.join(",").into(),
            Cell::new(format!("{healthy}/{all}"), tone),
            balancing.into(),
            if s.waypoint { "yes" } else { "no" }.into(),
            Cell::new(item.exceptions(), Tone::Doubtful),
        ]);
    }
    table
}

/// `80`, or `80->8080`; the target is 0 when each workload says it.
fn port(port: &Port) -> String {
    let Port {
        service_port,
        target_port,
    } = port;
    if *target_port == 0 || service_port == target_port {
        service_port.to_string()
    } else {
        format!("{service_port}->{target_port}")
    }
}
