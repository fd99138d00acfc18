//! One agent in place of another, while pods connect.

use super::application::{NAMESPACE, SERVICES, answer};
use super::installation;
use super::{Outcome, SYSTEM, Stage};
use crate::process::Process;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::process::ExitStatus;
use std::time::Duration;
use tempfile::TempDir;

/// The DaemonSet that takes over for a while.
pub(super) const NEXT: &str = "weft-node-next";
const STOP: &str = "/weft-test-stop";
const DEADLINE: Duration = Duration::from_secs(120);

/// Every node's agent is replaced twice, as a DaemonSet with surge does it: the new one is ready before the old
/// one is told to end. No connection fails.
pub(super) fn loses_nothing(stage: &Stage) -> Result<Outcome> {
    let mut connecting = Connecting::start(stage)?;
    let old = agents(stage)?;
    let mut next = old.clone();
    next["metadata"]["name"] = json!(NEXT);
    // Its pods are told from the other's by this.
    for labels in [
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    ] {
        let labels = next
            .pointer_mut(labels)
            .context("a DaemonSet without labels")?;
        labels["weft-test"] = json!("next");
    }
    for (set, other) in [(&next, &old), (&old, &next)] {
        stage.kubectl.apply(std::slice::from_ref(set))?;
        let [set, other] = [set, other].map(|set| {
            format!(
                "daemonset/{}",
                set["metadata"]["name"].as_str().unwrap_or_default()
            )
        });
        stage
            .kubectl
            .run(&["-n", SYSTEM, "rollout", "status", &set, "--timeout=300s"])?;
        let delete = [
            "-n",
            SYSTEM,
            "delete",
            &other,
            "--cascade=foreground",
            "--timeout=300s",
        ];
        stage.kubectl.run(&delete)?;
    }
    let (connections, failures) = connecting.finish(stage)?;
    ensure!(connections > 0, "nothing connected meanwhile");
    ensure!(
        failures == 0,
        "{failures} of {connections} connections failed"
    );
    Ok(Outcome::Holds(format!(
        "{connections} connections, none failed, through two replacements"
    )))
}

/// The shipped DaemonSet, as it is installed.
fn agents(stage: &Stage) -> Result<Value> {
    let objects = installation::prepared(stage)?;
    let found = objects
        .into_iter()
        .find(|object| object["kind"] == "DaemonSet");
    found.context("the manifests have no DaemonSet")
}

/// A pod that connects again and again.
struct Connecting {
    process: Process,
    /// Where its log is.
    _home: TempDir,
}

impl Connecting {
    fn start(stage: &Stage) -> Result<Self> {
        let [web, catalog, _] = SERVICES;
        let service = stage.kubectl.get(&["-n", NAMESPACE, "service", catalog])?;
        let address = service["spec"]["clusterIP"]
            .as_str()
            .context("it has no address")?;
        let script = format!(
            "n=0; f=0; while [ ! -e {STOP} ]; do n=$((n+1)); \
             printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {address} 80 | grep -q {} || f=$((f+1)); \
             done; echo result $n $f; rm {STOP}",
            answer(catalog)
        );
        let deployment = format!("deployment/{web}");
        let words = [
            "-n",
            NAMESPACE,
            "exec",
            &deployment,
            "--",
            "/bin/busybox",
            "sh",
            "-c",
            &script,
        ];
        let home = tempfile::tempdir()?;
        let log = home.path().join("loop.log");
        let process = Process::spawn(stage.kubectl.command(&words)?, &log)?;
        Ok(Self {
            process,
            _home: home,
        })
    }

    /// How many connections were made, and how many failed.
    fn finish(&mut self, stage: &Stage) -> Result<(u64, u64)> {
        let [web, ..] = SERVICES;
        let stop = ["/bin/busybox", "touch", STOP];
        let stopped = stage
            .kubectl
            .exec(NAMESPACE, &format!("deployment/{web}"), &stop)?;
        ensure!(stopped.success(), "{}", stopped.summary());
        let status: ExitStatus = self.process.wait(DEADLINE)?;
        let output = self.process.output();
        let mut words = output
            .split_whitespace()
            .skip_while(|word| *word != "result")
            .skip(1);
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (connections, failures) = (number(), number());
        connections
            .zip(failures)
            .with_context(|| format!("the loop ended with {status}: {output}"))
    }
}
