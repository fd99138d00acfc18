//! The agents, asked in their pods.

use super::{SYSTEM, Stage};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeSet;

const SELECTOR: &str = "app.kubernetes.io/name=weft-node";

/// Every pod of the namespace that some agent has enrolled.
pub(super) fn enrolled(stage: &Stage, namespace: &str) -> Result<BTreeSet<String>> {
    let agents = stage.kubectl.get(&["-n", SYSTEM, "pods", "-l", SELECTOR])?;
    let mut found = BTreeSet::new();
    for agent in agents["items"].as_array().into_iter().flatten() {
        let name = agent["metadata"]["name"]
            .as_str()
            .context("a pod without a name")?;
        let exec = ["-n", SYSTEM, "exec", name, "-c", "mesh-node", "--"];
        let list = ["/usr/local/bin/mesh-node", "list"];
        let listed = stage.kubectl.run(&[&exec[..], &list].concat())?;
        let pods: Value =
            serde_json::from_str(&listed).with_context(|| format!("{name} listed {listed:?}"))?;
        for pod in pods.as_array().into_iter().flatten() {
            if pod["namespace"] == namespace {
                found.extend(pod["name"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(found)
}
