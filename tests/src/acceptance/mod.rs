//! Weft on a real cluster, installed from its images and manifests: what `cargo xtask k8s test` shows, step by step.
//!
//! A step either holds, with the evidence for it, or it fails; one that this cluster or its user does not allow is said not to
//! have run, and why. The cluster is left as it was found.

mod agents;
mod application;
mod boot;
mod enrolment;
mod installation;
mod kubectl;
mod policy;
mod rollout;
mod scrape;
mod traffic;
mod uninstallation;

pub use kubectl::Kubectl;

use crate::cluster::Layout;
use anyhow::{Result, bail};
use std::time::Instant;

/// Weft's namespace.
const SYSTEM: &str = "weft-system";

/// What the steps act on.
pub struct Stage {
    /// The cluster.
    pub kubectl: Kubectl,
    /// The cluster of two nodes on this machine, if that is the one: its nodes can be looked into.
    pub own: Option<Layout>,
    /// Where the images are: REPOSITORY/mesh-node and REPOSITORY/mesh-controller.
    pub repository: String,
    /// The images' tag.
    pub tag: String,
}

/// How a step ended.
enum Outcome {
    /// It holds, and this shows it.
    Holds(String),
    /// It cannot be run here, for this reason.
    NotRun(String),
}

type Step = fn(&Stage) -> Result<Outcome>;

const STEPS: [(&str, Step); 15] = [
    ("Weft is installed", installation::install),
    (
        "every node has an agent that is ready",
        installation::agents_are_ready,
    ),
    (
        "an application runs on both nodes, behind its own Services",
        application::deploy,
    ),
    (
        "pods of namespaces that are not labelled talk as ever",
        traffic::outside_the_mesh,
    ),
    (
        "a label takes the namespace's running pods into the mesh",
        enrolment::label,
    ),
    (
        "traffic between nodes is mutual TLS on the wire",
        enrolment::is_encrypted,
    ),
    ("STRICT takes effect", policy::strict),
    ("an AuthorizationPolicy takes effect", policy::authorization),
    ("a pod can opt out", enrolment::opt_out),
    ("kubelet's probes pass under STRICT", enrolment::probes_pass),
    (
        "100 pods that connect at once send nothing in clear",
        boot::no_plaintext,
    ),
    (
        "agents are replaced under load, and no connection fails",
        rollout::loses_nothing,
    ),
    (
        "Prometheus scrapes every agent by the shipped configuration",
        scrape::every_agent,
    ),
    (
        "without the label, pods leave the mesh as they run",
        enrolment::unlabel,
    ),
    (
        "nothing is left after the uninstallation",
        uninstallation::leaves_nothing,
    ),
];

/// Runs every step, each also when one before it failed, and prints a line for each.
///
/// # Errors
/// When a step failed; the lines say which.
pub fn run(stage: &Stage) -> Result<()> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let start = Instant::now();
        let (word, text) = match step(stage) {
            Ok(Outcome::Holds(evidence)) => ("ok", evidence),
            Ok(Outcome::NotRun(reason)) => ("not run", reason),
            Err(error) => {
                failed.push(name);
                ("FAILED", format!("{error:#}"))
            }
        };
        println!(
            "{word}: {name} [{:.1} s]: {text}",
            start.elapsed().as_secs_f64()
        );
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} steps failed: {}",
            failed.len(),
            STEPS.len(),
            failed.join("; ")
        );
    }
    Ok(())
}
