//! The label on a namespace: what it does to pods that run, and what a pod's own label does.

use super::agents::enrolled;
use super::application::{self, NAMESPACE, SERVICES, answer, ask};
use super::{Outcome, Stage};
use crate::capture::Capture;
use crate::cluster::{NODES, WIRE};
use crate::pcap::Trace;
use crate::{netns, wait};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const LABEL: &str = "istio.io/dataplane-mode";
const DEADLINE: Duration = Duration::from_secs(60);
/// The port of tunnels.
pub(super) const TUNNEL: u16 = 15008;
/// A pod of the namespace that wants no mesh.
const APART: &str = "apart";

/// Labels the namespace: the application's pods are taken into the mesh as they run.
pub(super) fn label(stage: &Stage) -> Result<Outcome> {
    let before = pods(stage)?;
    let start = Instant::now();
    let value = format!("{LABEL}=ambient");
    stage
        .kubectl
        .run(&["label", "--overwrite", "namespace", NAMESPACE, &value])?;
    let names: BTreeSet<String> = before.keys();
    wait::until_true("every pod to be enrolled", DEADLINE, || {
        Ok(enrolled(stage, NAMESPACE)?.is_superset(&names))
    })?;
    let took = start.elapsed().as_secs_f64();
    ensure!(pods(stage)? == before, "pods were replaced or restarted");
    Ok(Outcome::Holds(format!(
        "{} pods enrolled within {took:.1} s, asking the agents included; none was restarted",
        names.len()
    )))
}

/// Every connection between nodes is in a tunnel.
pub(super) fn is_encrypted(stage: &Stage) -> Result<Outcome> {
    let [web, catalog, stock] = SERVICES;
    let Some(trace) = on_the_wire(stage, || {
        ask(stage, web, catalog)?;
        ask(stage, catalog, stock).map(drop)
    })?
    else {
        return Ok(wire_is_elsewhere());
    };
    for name in [catalog, stock] {
        ensure!(
            !trace.contains(answer(name).as_bytes()),
            "the answer of {name} is in clear on the wire"
        );
    }
    ensure!(
        trace.packets_on_port(application::PORT) == 0,
        "there are connections to the application's port on the wire"
    );
    let packets = trace.packets_on_port(TUNNEL);
    ensure!(packets > 0, "nothing went through a tunnel");
    Ok(Outcome::Holds(format!(
        "{packets} packets on port {TUNNEL}, TLS records {:?}, nothing in clear",
        trace.tls_records_to(TUNNEL)
    )))
}

/// A pod of the namespace with the label `none` stays outside: it is not enrolled, and STRICT refuses it.
pub(super) fn opt_out(stage: &Stage) -> Result<Outcome> {
    let pod = application::client(APART, NAMESPACE, Some((LABEL, "none")));
    stage.kubectl.apply(&[pod])?;
    let ready = [
        "-n",
        NAMESPACE,
        "wait",
        "--for=condition=Ready",
        "--timeout=120s",
    ];
    stage.kubectl.run(&[&ready[..], &["pod/apart"]].concat())?;
    ensure!(
        !enrolled(stage, NAMESPACE)?.contains(APART),
        "a pod that opted out is enrolled"
    );
    let [_, catalog, _] = SERVICES;
    let refused = application::ask_from(stage, NAMESPACE, APART, catalog);
    ensure!(
        refused.is_err(),
        "STRICT let a pod through that is not in the mesh"
    );
    stage
        .kubectl
        .run(&["-n", NAMESPACE, "delete", "pod", APART, "--wait"])?;
    Ok(Outcome::Holds("not enrolled, and refused by STRICT".into()))
}

/// Pods that start under STRICT become ready by kubelet's HTTP, TCP and exec probes.
pub(super) fn probes_pass(stage: &Stage) -> Result<Outcome> {
    for name in SERVICES {
        let workload = format!("deployment/{name}");
        stage
            .kubectl
            .run(&["-n", NAMESPACE, "rollout", "restart", &workload])?;
        let status = [
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            &workload,
            "--timeout=240s",
        ];
        stage.kubectl.run(&status)?;
    }
    let restarted: Vec<String> = pods(stage)?.restarted();
    ensure!(
        restarted.is_empty(),
        "probes failed: {} were restarted",
        restarted.join(", ")
    );
    Ok(Outcome::Holds(
        "HTTP readiness, TCP liveness and exec startup probes".into(),
    ))
}

/// Takes the label away: the pods run on, and talk as before.
pub(super) fn unlabel(stage: &Stage) -> Result<Outcome> {
    let before = pods(stage)?;
    let start = Instant::now();
    stage
        .kubectl
        .run(&["label", "namespace", NAMESPACE, &format!("{LABEL}-")])?;
    wait::until_true("no pod to be enrolled", DEADLINE, || {
        Ok(enrolled(stage, NAMESPACE)?.is_empty())
    })?;
    let took = start.elapsed().as_secs_f64();
    let [web, catalog, _] = SERVICES;
    let trace = on_the_wire(stage, || ask(stage, web, catalog).map(drop))?;
    if let Some(trace) = trace {
        ensure!(
            trace.contains(answer(catalog).as_bytes()),
            "the answer of {catalog} is not in clear on the wire"
        );
    }
    ensure!(pods(stage)? == before, "pods were replaced or restarted");
    Ok(Outcome::Holds(format!(
        "within {took:.1} s, asking the agents included; none was restarted"
    )))
}

/// What was on the wire between the nodes while `work` was done; nothing where the wire cannot be looked at.
pub(super) fn on_the_wire(
    stage: &Stage,
    work: impl FnOnce() -> Result<()>,
) -> Result<Option<Trace>> {
    let Some(layout) = &stage.own else {
        work()?;
        return Ok(None);
    };
    let [one, two] = &NODES;
    let beyond = two.address.parse()?;
    let capture = Capture::link(&netns::path(one.netns), WIRE, beyond, &layout.logs())?;
    work()?;
    capture.stop().map(Some)
}

pub(super) fn wire_is_elsewhere() -> Outcome {
    Outcome::NotRun(
        "it captures packets between the nodes, as root on them: `cargo xtask k8s up`".into(),
    )
}

/// The application's pods: uid and restarts, by name.
#[derive(PartialEq)]
struct Pods(Vec<(String, String, i64)>);

impl Pods {
    fn keys(&self) -> BTreeSet<String> {
        self.0.iter().map(|(name, ..)| name.clone()).collect()
    }

    fn restarted(&self) -> Vec<String> {
        let restarted = self.0.iter().filter(|(.., restarts)| *restarts > 0);
        restarted.map(|(name, ..)| name.clone()).collect()
    }
}

fn pods(stage: &Stage) -> Result<Pods> {
    let list = stage.kubectl.get(&["-n", NAMESPACE, "pods", "-l", "app"])?;
    let mut pods = Vec::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = text(&pod["metadata"]["name"]).context("a pod without a name")?;
        let uid = text(&pod["metadata"]["uid"]).context("a pod without a uid")?;
        let statuses = pod["status"]["containerStatuses"].as_array();
        let restarts = statuses
            .into_iter()
            .flatten()
            .filter_map(|status| status["restartCount"].as_i64())
            .sum();
        pods.push((name, uid, restarts));
    }
    pods.sort();
    Ok(Pods(pods))
}
