//! The installation from the Helm chart's objects, and what is ready then.

use super::{Outcome, SYSTEM, Stage};
use crate::manifests::{self, Object};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Before it, a DaemonSet ends an agent before it starts the next.
const FIRST_WITH_SURGE: u32 = 22;

/// The shipped objects, with what this cluster needs otherwise.
pub(super) fn objects(stage: &Stage) -> Result<Vec<Value>> {
    let folder = manifests::directory();
    let values = json!({
        "image": {"repository": stage.repository, "tag": stage.tag},
    });
    let chart = manifests::chart(&folder.join("helm/weft"), SYSTEM, &values)?;
    let base = manifests::build(&folder.join("kustomize/base"))?;
    let is_namespace = |object: &Object| object.kind() == "Namespace";
    let namespace = base.into_iter().filter(is_namespace);
    let mut objects: Vec<Value> = namespace.chain(chart).map(|object| object.0).collect();
    let versions = stage.kubectl.run(&["api-versions"])?;
    if !versions.lines().any(|version| version == "policy/v1") {
        // Before Kubernetes 1.21.
        for object in &mut objects {
            if object["kind"] == "PodDisruptionBudget" {
                object["apiVersion"] = json!("policy/v1beta1");
            }
        }
    }
    if minor_version(stage)? < FIRST_WITH_SURGE {
        for object in &mut objects {
            if object["kind"] == "DaemonSet" {
                object["spec"]["updateStrategy"] =
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
            }
        }
    }
    Ok(objects)
}

/// The server's version, as in Kubernetes 1.MINOR.
fn minor_version(stage: &Stage) -> Result<u32> {
    let version = stage.kubectl.run(&["version", "-o", "json"])?;
    let version: Value = serde_json::from_str(&version).context("kubectl tells no version")?;
    let minor = version["serverVersion"]["minor"].as_str();
    // Some write `27+`.
    let digits: String = minor
        .unwrap_or_default()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().context("the server tells no version")
}

/// The same once the controller's Service is there: the cluster on this machine has no DNS, so agents are told its
/// address.
pub(super) fn prepared(stage: &Stage) -> Result<Vec<Value>> {
    let mut objects = objects(stage)?;
    if stage.own.is_some() {
        name_the_controller(stage, &mut objects)?;
    }
    Ok(objects)
}

fn name_the_controller(stage: &Stage, objects: &mut [Value]) -> Result<()> {
    let service = ["-n", SYSTEM, "service", "weft-controller"];
    let service = stage.kubectl.get(&service)?;
    let address = &service["spec"]["clusterIP"];
    for object in objects {
        if object["kind"] == "DaemonSet" {
            object["spec"]["template"]["spec"]["hostAliases"] =
                json!([{"ip": address, "hostnames": ["weft-controller.weft-system.svc"]}]);
        }
    }
    Ok(())
}

pub(super) fn install(stage: &Stage) -> Result<Outcome> {
    let (mut agents, others): (Vec<Value>, Vec<Value>) = objects(stage)?
        .into_iter()
        .partition(|object| object["kind"] == "DaemonSet");
    // Policies cannot be read before their kinds are served, and nothing is made in a namespace that is not there.
    let (first, then): (Vec<Value>, Vec<Value>) = others.into_iter().partition(|object| {
        object["kind"] == "Namespace" || object["kind"] == "CustomResourceDefinition"
    });
    stage.kubectl.apply(&first)?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s"];
    for object in first.iter().filter(|object| object["kind"] != "Namespace") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let definition = format!("customresourcedefinition/{name}");
        stage
            .kubectl
            .run(&[&established[..], &[definition.as_str()]].concat())?;
    }
    stage.kubectl.apply(&then)?;
    if stage.own.is_some() {
        name_the_controller(stage, &mut agents)?;
    }
    stage.kubectl.apply(&agents)?;
    for workload in ["deployment/weft-controller", "daemonset/weft-node"] {
        let status = [
            "-n",
            SYSTEM,
            "rollout",
            "status",
            workload,
            "--timeout=300s",
        ];
        stage
            .kubectl
            .run(&status)
            .with_context(|| describe(stage, workload))?;
    }
    Ok(Outcome::Holds(
        "controllers and agents are rolled out".into(),
    ))
}

/// What the cluster says of pods that do not come up.
fn describe(stage: &Stage, workload: &str) -> String {
    let describe = |arguments: &[&str]| {
        let text = stage.kubectl.run(arguments).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    };
    let events = describe(&["-n", SYSTEM, "get", "events", "--sort-by=.lastTimestamp"]);
    let log = describe(&["-n", SYSTEM, "logs", workload, "--tail=20"]);
    format!("{workload} is not rolled out\n{events}\n{log}")
}

pub(super) fn agents_are_ready(stage: &Stage) -> Result<Outcome> {
    let nodes = stage.kubectl.get(&["nodes"])?;
    let nodes = nodes["items"].as_array().map_or(0, Vec::len);
    let selector = "app.kubernetes.io/name=weft-node";
    let pods = stage.kubectl.get(&["-n", SYSTEM, "pods", "-l", selector])?;
    let mut ready = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let statuses = pod["status"]["containerStatuses"].as_array();
        let is_ready = |status: &Value| status["ready"] == true && status["restartCount"] == 0;
        ensure!(
            statuses.is_some_and(|statuses| statuses.iter().all(is_ready)),
            "the agent on {node} is not ready, or was restarted: {}",
            pod["status"]
        );
        ready.push(node.to_owned());
    }
    ensure!(
        nodes > 0 && ready.len() == nodes,
        "{nodes} nodes, and agents on {ready:?}"
    );
    Ok(Outcome::Holds(format!(
        "on {}, none privileged, none restarted",
        ready.join(", ")
    )))
}
