//! The agents, asked in their pods.

use super::{SYSTEM, Stage};
use anyhow::{Context as _, Result, ensure};
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
        let list = ["/usr/local/bin/mesh-node", "list"];
        let output = stage.kubectl.exec(SYSTEM, name, &list)?;
        ensure!(
            output.success(),
            "{name} does not list its pods: {}",
            output.summary()
        );
        let pods: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("{name} listed {:?}", output.stdout))?;
        for pod in pods.as_array().into_iter().flatten() {
            if pod["namespace"] == namespace {
                found.extend(pod["name"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(found)
}
