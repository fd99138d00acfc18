//! The boot race: pods that connect before anything else.

use super::application::{self, NAMESPACE, SERVICES};
use super::enrolment::{TUNNEL, on_the_wire, wire_is_elsewhere};
use super::{Outcome, Stage};
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::Duration;

const PODS: u32 = 100;
const MARKER: &str = "weft-test-boot";
/// Kubelet makes a few pods a second on a busy machine.
const DEADLINE: Duration = Duration::from_secs(900);

/// None of so many pods, each of which connects with its first instruction, is seen on the wire in clear.
pub(super) fn no_plaintext(stage: &Stage) -> Result<Outcome> {
    if stage.own.is_none() {
        return Ok(wire_is_elsewhere());
    }
    let [_, catalog, _] = SERVICES;
    let service = stage.kubectl.get(&["-n", NAMESPACE, "service", catalog])?;
    let address = service["spec"]["clusterIP"]
        .as_str()
        .context("it has no address")?;
    let answering =
        stage
            .kubectl
            .get(&["-n", NAMESPACE, "pods", "-l", &format!("app={catalog}")])?;
    let node = answering["items"][0]["spec"]["nodeName"]
        .as_str()
        .context("it has no node")?;
    // The pipe is made before either side runs: `nc` connects while `echo` writes.
    let connect = format!("echo {MARKER} | nc -w 20 {address} 80");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "boot", "namespace": NAMESPACE},
        "spec": {
            "parallelism": PODS, "completions": PODS, "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                // From the other node, so that they are seen on the wire.
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{
                        "key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node],
                    }]}],
                }}},
                "containers": [{
                    "name": "app",
                    "image": application::IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/busybox", "sh", "-c", connect],
                }],
            }},
        },
    });
    let trace = on_the_wire(stage, || {
        stage.kubectl.apply(&[job])?;
        wait::until_true("every pod to have connected", DEADLINE, || {
            let job = stage.kubectl.get(&["-n", NAMESPACE, "job", "boot"])?;
            let status = &job["status"];
            ensure!(
                status["failed"].is_null(),
                "pods could not connect: {status}"
            );
            Ok(status["succeeded"] == PODS)
        })
    })?;
    stage
        .kubectl
        .run(&["-n", NAMESPACE, "delete", "job", "boot", "--wait"])?;
    let trace = trace.context("the wire was not captured")?;
    ensure!(!trace.contains(MARKER.as_bytes()), "a pod sent in clear");
    let in_clear = trace.packets_on_port(application::PORT);
    ensure!(
        in_clear == 0,
        "{in_clear} packets went to the application's port"
    );
    ensure!(
        trace.packets_on_port(TUNNEL) > 0,
        "nothing went through a tunnel"
    );
    Ok(Outcome::Holds(format!(
        "{PODS} pods connected, all through tunnels"
    )))
}
