//! A real Prometheus with the configuration that is shipped. Debian's is built without the discovery of pods: that part is
//! done here, with the labels that Prometheus documents for `kubernetes_sd_configs`, role `pod`.

use super::{Outcome, Stage};
use crate::cluster::NODES;
use crate::manifests;
use crate::process::Process;
use crate::{netns, wait};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
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
    fs::write(&config, configuration(stage)?.to_string())?;
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
    Ok(Outcome::Holds(format!(
        "agents of {}, which the step looked up in the place of Prometheus",
        nodes.join(", ")
    )))
}

/// What is shipped, with the pods in place of how they are found.
fn configuration(stage: &Stage) -> Result<Value> {
    let file = manifests::directory().join("prometheus/scrape.yaml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut config: Value = serde_norway::from_str(&text)?;
    config["global"] = json!({"scrape_interval": "1s"});
    let jobs = config["scrape_configs"].as_array_mut();
    for job in jobs.context("there are no jobs")? {
        let job = job.as_object_mut().context("a job is no object")?;
        let discovery = job.remove("kubernetes_sd_configs");
        let discovery = discovery.context("a job without discovery")?;
        let mut found = Vec::new();
        for how in discovery.as_array().into_iter().flatten() {
            ensure!(how["role"] == "pod", "what {how} finds is not known here");
            for namespace in how["namespaces"]["names"].as_array().into_iter().flatten() {
                let namespace = namespace.as_str().context("a namespace is no text")?;
                let pods = stage.kubectl.get(&["-n", namespace, "pods"])?;
                found.extend(
                    pods["items"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .flat_map(discovered),
                );
            }
        }
        job.insert("static_configs".into(), Value::Array(found));
    }
    Ok(config)
}

/// What Prometheus finds in a pod: a target for each port of each container.
fn discovered(pod: &Value) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut of_pod = Map::new();
    let mut meta = |name: &str, value: &Value| {
        of_pod.insert(
            format!("__meta_kubernetes_{name}"),
            Value::String(text(value)),
        );
    };
    meta("namespace", &pod["metadata"]["namespace"]);
    meta("pod_name", &pod["metadata"]["name"]);
    meta("pod_node_name", &pod["spec"]["nodeName"]);
    for (name, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = name.replace(|c| !is_word(c), "_");
        meta(&format!("pod_label_{name}"), value);
    }
    let containers = pod["spec"]["containers"].as_array();
    let mut found = Vec::new();
    for container in containers.into_iter().flatten() {
        for port in container["ports"].as_array().into_iter().flatten() {
            let mut labels = of_pod.clone();
            let mut meta = |name: &str, value: &Value| {
                labels.insert(
                    format!("__meta_kubernetes_pod_container_{name}"),
                    Value::String(text(value)),
                );
            };
            meta("name", &container["name"]);
            meta("port_name", &port["name"]);
            let address = format!(
                "{}:{}",
                text(&pod["status"]["podIP"]),
                port["containerPort"]
            );
            found.push(json!({"targets": [address], "labels": labels}));
        }
    }
    found
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
