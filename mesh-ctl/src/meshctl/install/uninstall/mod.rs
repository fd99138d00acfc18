//! `meshctl uninstall`: takes Weft out of the cluster, and off its nodes.
//!
//! The order keeps traffic going and leaves no one to undo it: pods leave the mesh while agents run; agents end;
//! a pod on each node removes the plugin and what is pinned; controllers end; then goes what they made, their
//! rights, and the namespace. Each step may be repeated.

mod delete;
mod enrolment;
mod inventory;
mod nodes;

pub(super) use inventory::labelled;

use std::time::Duration;

use kube::api::DynamicObject;
use serde::Serialize;

use super::cluster::Cluster;
use super::error::InstallError;
use super::object::{Id, kind};
use super::wait::Patience;
use crate::meshctl::output::{Cell, Column, Output, Table, Tone};
use crate::meshctl::{CliError, Exit, Session};

/// How to uninstall.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take namespaces and pods that are in the mesh out of it first: their label istio.io/dataplane-mode goes
    #[arg(long)]
    pub unenrol: bool,
    /// Go on although pods are in the mesh, or nodes cannot be cleaned
    #[arg(long)]
    pub force: bool,
    /// Delete the definitions of policies too if they are Weft's, and with them every policy
    #[arg(long)]
    pub purge: bool,
    /// Show what would be deleted, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Image of the agents, to clean nodes with; without it that of the installed DaemonSet
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// How long each step may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

#[derive(Serialize)]
struct Report {
    items: Vec<Id>,
    notes: Vec<String>,
}

/// Removes it, step by step.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let cluster = Cluster::connect(&session.reach).await?;
    let server = cluster.discover().await?;
    inventory::is_here(&cluster).await?;
    let found = inventory::all(&cluster, &server, args.purge).await?;
    if args.dry_run {
        let enrolled = enrolment::enrolled(&cluster).await?;
        let mut notes = notes(&found, args.purge);
        notes.extend(inventory::kept_namespace(&cluster).await?);
        if !enrolled.is_empty() {
            notes.push(format!(
                "still in the mesh: {enrolled}; --unenrol takes them out"
            ));
        }
        return show(&found, "would go", notes, &session.output);
    }
    if found.is_empty() {
        let notes = vec!["there is nothing of Weft in this cluster".to_owned()];
        return show(&found, "deleted", notes, &session.output);
    }
    let nodes = nodes::all(&cluster).await?;
    if !nodes.lost.is_empty() && !args.force {
        return Err(InstallError::Nodes(nodes.reasons()).into());
    }
    let enrolled = enrolment::enrolled(&cluster).await?;
    if !enrolled.is_empty() {
        if args.unenrol {
            enrolment::end(&cluster, &enrolled).await?;
            enrolment::until_released(&session.reach, args).await?;
        } else if !args.force {
            return Err(InstallError::Enrolled(enrolled.to_string()).into());
        }
    }
    let image = nodes::Image::find(&cluster, args.image.clone()).await?;
    delete::all(&cluster, of_kind(&found, "DaemonSet")).await?;
    let lost = nodes.lost_names();
    delete::until_no_pods(&cluster, "weft-node", &lost, args.timeout).await?;
    let unclean = nodes::clean(&cluster, &nodes, &image, args.timeout).await?;
    if !unclean.is_empty() && !args.force {
        return Err(InstallError::Nodes(unclean).into());
    }
    delete::all(&cluster, of_kind(&found, "Deployment")).await?;
    delete::until_no_pods(&cluster, "weft-controller", &lost, args.timeout).await?;
    // What controllers may have made to the last is looked for again.
    let rest = inventory::all(&cluster, &server, args.purge).await?;
    delete_rest(&cluster, &rest, args.timeout).await?;
    let is_workload = |o: &DynamicObject| ["DaemonSet", "Deployment"].contains(&kind(o));
    let mut gone: Vec<_> = found.into_iter().filter(is_workload).collect();
    gone.extend(rest);
    let mut notes = notes(&gone, args.purge);
    notes.extend(inventory::kept_namespace(&cluster).await?);
    notes.extend(unclean.iter().map(|node| format!("not cleaned: {node}")));
    show(&gone, "deleted", notes, &session.output)?;
    Ok(if unclean.is_empty() {
        Exit::Success
    } else {
        Exit::Partial
    })
}

fn of_kind<'a>(
    found: &'a [DynamicObject],
    wanted: &'a str,
) -> impl Iterator<Item = &'a DynamicObject> {
    found.iter().filter(move |object| kind(object) == wanted)
}

/// The namespace goes last, with what else is in it.
async fn delete_rest(
    cluster: &Cluster,
    rest: &[DynamicObject],
    timeout: Duration,
) -> Result<(), InstallError> {
    let (last, first): (Vec<_>, Vec<_>) = rest.iter().partition(|o| kind(o) == "Namespace");
    for batch in [first, last] {
        delete::all(cluster, batch.iter().copied()).await?;
        delete::until_gone(cluster, &batch, Patience::new(timeout)).await?;
    }
    Ok(())
}

/// What goes for good, and what stays.
fn notes(found: &[DynamicObject], purge: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(authority) = found.iter().find(|object| inventory::is_authority(object)) {
        notes.push(format!(
            "{} is the certificate authority: without a copy of it, another installation begins with a new root, \
             which nobody trusts yet",
            Id::of(authority)
        ));
    }
    if !purge {
        notes.push("policies and their definitions stay; --purge deletes those of Weft".to_owned());
    }
    notes.push(
        "the folders /var/lib/weft and /run/weft stay on nodes; there is no secret in them"
            .to_owned(),
    );
    notes
}

fn show(
    objects: &[DynamicObject],
    done: &str,
    notes: Vec<String>,
    output: &Output,
) -> Result<Exit, CliError> {
    for note in &notes {
        eprintln!("note: {note}");
    }
    let report = Report {
        items: objects.iter().map(Id::of).collect(),
        notes,
    };
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "DONE"].map(Column::text));
    for id in &report.items {
        table.row([
            id.kind.as_str().into(),
            Cell::maybe(id.namespace.as_deref()),
            id.name.as_str().into(),
            Cell::new(done, Tone::Plain),
        ]);
    }
    output.show(&report, [&table])?;
    Ok(Exit::Success)
}
