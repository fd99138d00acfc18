//! A real Prometheus with the configuration that is shipped.

use super::{Outcome, Stage};
use crate::cluster::NODES;
use crate::manifests;
use crate::process::Process;
use crate::{netns, wait};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// On the first node's loopback.
const ADDRESS: &str = "127.0.0.1:19090";
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn every_agent(stage: &Stage) -> Result<Outcome> {
    let Some(layout) = &stage.own else {
        let reason =
            "it runs a Prometheus on a node's network: in the cluster of `cargo xtask k8s up` only";
        return Ok(Outcome::NotRun(reason.into()));
    };
    let home = tempfile::tempdir()?;
    let config = home.path().join("prometheus.yaml");
    fs::write(&config, configuration(&layout.kubeconfig())?.to_string())?;
    let netns = netns::path(NODES[0].netns);
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns.display()))
        .args(["setpriv", "--pdeathsig", "KILL", "--", "prometheus"])
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            home.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={ADDRESS}"));
    let mut prometheus = Process::spawn(command, &layout.logs().join("prometheus.log"))
        .context("is the Debian package prometheus installed?")?;
    let healthy = wait::until("Prometheus to have scraped every agent", DEADLINE, || {
        let targets = targets(&netns).unwrap_or_default();
        let nodes = scraped(&targets);
        Ok((nodes.len() == NODES.len()).then_some(nodes))
    });
    let tail = prometheus.tail();
    prometheus.kill()?;
    let nodes = healthy.with_context(|| format!("Prometheus said:\n{tail}"))?;
    Ok(Outcome::Holds(format!("agents of {}", nodes.join(", "))))
}

/// What is shipped, and where the API server is: inside of a cluster, Prometheus knows.
fn configuration(kubeconfig: &Path) -> Result<Value> {
    let file = manifests::directory().join("prometheus/scrape.yaml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut config: Value = serde_norway::from_str(&text)?;
    config["global"] = json!({"scrape_interval": "1s"});
    let jobs = config["scrape_configs"].as_array_mut();
    for job in jobs.context("there are no jobs")? {
        job["kubernetes_sd_configs"][0]["kubeconfig_file"] = json!(kubeconfig);
    }
    Ok(config)
}

fn targets(netns: &Path) -> Result<Value> {
    let url = format!("http://{ADDRESS}/api/v1/targets?state=active");
    let mut curl = Command::new("nsenter");
    curl.arg(format!("--net={}", netns.display()))
        .args(["curl", "-sS", "-m", "5", &url]);
    let output = crate::shell::capture(&mut curl, b"", Duration::from_secs(10))?;
    ensure!(output.success(), "{}", output.summary());
    serde_json::from_str(&output.stdout).context("Prometheus answers no JSON")
}

/// The nodes whose agents' metrics were read.
fn scraped(targets: &Value) -> Vec<String> {
    let active = targets["data"]["activeTargets"].as_array();
    let mut nodes: Vec<String> = active
        .into_iter()
        .flatten()
        .filter(|target| target["labels"]["job"] == "weft-node" && target["health"] == "up")
        .filter_map(|target| target["labels"]["node"].as_str().map(str::to_owned))
        .collect();
    nodes.sort();
    nodes.dedup();
    nodes
}
