//! `meshctl install` and `meshctl uninstall`.
//!
//! What is installed is the folder `manifests`, embedded, with values set field by field. It is applied by
//! server-side apply: before anything is changed, the API server is asked what each step would do, and what
//! it or another owner of a field has against it ends the command.

mod adapt;
mod cluster;
mod diff;
mod error;
mod manifests;
mod object;
mod options;
mod plan;
mod readiness;
mod render;
mod report;
pub mod uninstall;
mod values;
mod wait;

pub use error::{Conflict, InstallError};
pub use object::Id;
pub use options::Args;
pub use render::render;
pub use values::{PullPolicy, SameNode, Values};

use kube::api::DynamicObject;
use serde::Serialize as _;

use super::output::{Format, Output};
use super::{CliError, Exit, Session};
use cluster::{Cluster, Server};
use object::kind;
use plan::{Action, Step};
use wait::Patience;

/// The label that takes a namespace, or a pod, into the mesh.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// Renders, compares, or applies and waits.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, CliError> {
    let namespace = session.reach.mesh_namespace();
    if let Err(reason) = values::namespace(namespace) {
        return Err(CliError::Usage(format!(
            "--mesh-namespace {namespace:?}: {reason}"
        )));
    }
    let mut objects = render(&args.values, namespace)?;
    if args.render {
        return print(&objects, &session.output);
    }
    let cluster = Cluster::connect(&session.reach).await?;
    let server = cluster.discover().await?;
    let mut notes = adapt::adapt(&mut objects, &server)?;
    let steps = plan::plan(&cluster, objects, args.force_conflicts).await?;
    notes.extend(
        steps
            .iter()
            .filter(|step| step.action == Action::Keep)
            .map(kept),
    );
    notes.extend(left_over(&cluster, &server, &steps).await);
    for note in &notes {
        eprintln!("note: {note}");
    }
    if args.diff {
        report::show_diff(&steps, &notes, &session.output)?;
        let found = steps.iter().any(report::would_change);
        return Ok(if found { Exit::Findings } else { Exit::Success });
    }
    let patience = Patience::new(args.timeout);
    apply(&cluster, &steps, args.force_conflicts, patience).await?;
    report::show(&steps, &notes, &session.output)?;
    if args.wait {
        let objects: Vec<_> = steps.iter().map(|step| &step.object).collect();
        wait::until_ready(&cluster, &objects, patience).await?;
    }
    Ok(Exit::Success)
}

async fn apply(
    cluster: &Cluster,
    steps: &[Step],
    force: bool,
    patience: Patience,
) -> Result<(), InstallError> {
    let ours = steps.iter().filter(|step| step.action != Action::Keep);
    let is_definition =
        |step: &&Step| ["Namespace", "CustomResourceDefinition"].contains(&kind(&step.object));
    let (first, then): (Vec<_>, Vec<_>) = ours.partition(is_definition);
    for step in &first {
        plan::apply(cluster, step, force).await?;
    }
    // The controllers find every kind that they read.
    let definitions = first
        .iter()
        .filter(|step| kind(&step.object) == "CustomResourceDefinition");
    let definitions: Vec<_> = definitions.map(|step| &step.object).collect();
    wait::until_served(cluster, &definitions, patience).await?;
    for step in &then {
        plan::apply(cluster, step, force).await?;
    }
    Ok(())
}

fn print(objects: &[DynamicObject], output: &Output) -> Result<Exit, CliError> {
    if output.format() == Some(Format::Json) {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        output.json(&list)?;
        return Ok(Exit::Success);
    }
    let mut text = Vec::new();
    for object in objects {
        text.extend_from_slice(b"---\n");
        let mut yaml = serde_norway::Serializer::new(&mut text);
        object.serialize(&mut yaml).map_err(std::io::Error::other)?;
    }
    output.write(&text)?;
    Ok(Exit::Success)
}

fn kept(step: &Step) -> String {
    format!(
        "{} is not Weft's (Istio's, for one): it stays as it is",
        Id::of(&step.object)
    )
}

/// What an earlier installation had, and this one has not. It is named and stays: nobody asked to delete.
async fn left_over(cluster: &Cluster, server: &Server, steps: &[Step]) -> Vec<String> {
    let wanted: Vec<_> = steps.iter().map(|step| Id::of(&step.object)).collect();
    // Whoever may apply all of this may list it; and without a list, nothing is wrong.
    let found = uninstall::labelled(cluster, server)
        .await
        .unwrap_or_default();
    let others = found.iter().map(Id::of).filter(|id| !wanted.contains(id));
    others.map(|id| {
        let namespace = id.namespace.iter().map(|namespace| format!("-n {namespace} ")).collect::<String>();
        let kind = id.kind.to_lowercase();
        format!("{id} is of an earlier installation: `kubectl {namespace}delete {kind} {}` removes it", id.name)
    }).collect()
}
