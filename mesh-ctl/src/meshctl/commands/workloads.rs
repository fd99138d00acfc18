//! `meshctl workloads`: what runs in the mesh, as the agents know it.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::meshctl::lists::{Filter, List, Merged, Object, merge, note_exceptions};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::{CliError, Exit, Session};

use super::views::{Pod, Workload};

const WHAT: [&str; 2] = ["workload", "workloads"];

/// Which to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
}

/// The pods that agents serve, by node, and the nodes that were asked.
#[derive(Default)]
struct Captured {
    nodes: HashSet<String>,
    pods: HashSet<(String, String, String)>,
}

impl Captured {
    /// Whether the agent of its node serves it; unknown when that agent was not asked.
    fn has(&self, workload: &Workload) -> Option<bool> {
        let Workload {
            node,
            namespace,
            name,
            ..
        } = workload;
        let pod = (node.clone(), namespace.clone(), name.clone());
        self.nodes.contains(node).then(|| self.pods.contains(&pod))
    }
}

/// Shows them.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let selection = args.filter.selection(WHAT, session);
    let answers = session.reach.agents(async |agent| {
        let workloads: Vec<Object<Workload>> = agent.get("/workloads").await?;
        let pods: Vec<Pod> = agent.get("/pods").await?;
        Ok((workloads, pods))
    });
    let answers = answers.await?.some()?;
    answers.warn();
    let exit = answers.exit();
    let (mut lists, mut captured) = (Vec::new(), Captured::default());
    for (node, (workloads, pods)) in answers.of {
        let of_node = |pod: Pod| (node.clone(), pod.namespace, pod.name);
        captured.pods.extend(pods.into_iter().map(of_node));
        captured.nodes.insert(node.clone());
        lists.push((node, workloads));
    }
    let mut items = selection.choose(merge(lists))?;
    for item in &mut items {
        let is_captured = captured.has(&item.view);
        item.add("captured", is_captured);
    }
    note_exceptions(&items, WHAT);
    let list = List {
        items: &items,
        unreachable: &answers.unreachable,
    };
    session.output.show(&list, [&table(&items, &captured)])?;
    Ok(exit)
}

fn table(items: &[Merged<Workload>], captured: &Captured) -> Table {
    let mut table = Table::new(&[
        Column::text("NAMESPACE"),
        Column::text("NAME"),
        Column::text("NODE"),
        Column::text("ADDRESS"),
        Column::text("TUNNEL"),
        Column::text("CAPTURED"),
        Column::text("HEALTHY"),
        Column::text("IDENTITY"),
        Column::text("OWNER").wide(),
        Column::text("SERVICES").wide(),
        Column::text("POLICIES").wide(),
        Column::text("UID").wide(),
        Column::text("EXCEPT ON").wide(),
    ]);
    for item in items {
        let w = &item.view;
        let addresses: Vec<_> = w.addresses.iter().map(IpAddr::to_string).collect();
        let services: Vec<_> = w.services.keys().map(String::as_str).collect();
        let captured = match captured.has(w) {
            Some(true) => Cell::new("yes", Tone::Good),
            Some(false) if w.tunnel == "hbone" => Cell::new("no", Tone::Bad),
            Some(false) => "no".into(),
            None => "unknown".into(),
        };
        let healthy = match w.healthy {
            true => Cell::new("yes", Tone::Good),
            false => Cell::new("no", Tone::Doubtful),
        };
        table.row([
            w.namespace.as_str().into(),
            w.name.as_str().into(),
            w.node.as_str().into(),
            addresses.join(",").into(),
            w.tunnel.as_str().into(),
            captured,
            healthy,
            w.identity.principal().into(),
            format!("{}/{}", w.workload_type, w.workload_name).into(),
            services.join(",").into(),
            w.policies.join(",").into(),
            w.uid.as_str().into(),
            Cell::new(item.exceptions(), Tone::Doubtful),
        ]);
    }
    table
}
