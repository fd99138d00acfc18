//! A mesh-node agent in the lab: on its node's network, in a cgroup of its own.

use crate::access_log::AccessLog;
use crate::controller::Controller;
use crate::http::Page;
use crate::process::Process;
use crate::shell::{self, Output};
use crate::tokens::{Claims, Issuer};
use crate::topology::{Lab, Node, Pod};
use crate::{http, programs, wait};
use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15020);
const READY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);
const ENROL_LIMIT: Duration = Duration::from_secs(30);

/// How to break the agents on purpose, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// The tunnel sends in clear.
    Plaintext,
    /// Policy always permits.
    AllowAll,
}

/// The agent's process and its files.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    node: Node,
    binary: PathBuf,
    argv: Vec<String>,
    run_dir: PathBuf,
    bpffs: PathBuf,
    log: PathBuf,
    access_log: AccessLog,
}

impl Agent {
    /// Starts the agent of this node, with `further` options, which replace those that it would have
    /// anyway; it is ready when this returns.
    pub fn start(
        lab: &Lab,
        node: &Node,
        controller: &Controller,
        issuer: &Issuer,
        sabotage: Option<Sabotage>,
        further: &[(&str, &str)],
    ) -> Result<Self> {
        let token = node.dir.join("token");
        fs::write(&token, issuer.token(&Claims::agent(&node.name))?)?;
        let run_dir = node.dir.join("run");
        fs::create_dir_all(&run_dir)?;
        let bpffs = lab.bpffs().join(&node.name);
        let access_log = node.dir.join("access.log");
        let binary = match sabotage {
            Some(_) => programs::binary("mesh-node-sabotaged")?,
            None => programs::binary("mesh-node")?,
        };
        let show = |path: &Path| path.to_string_lossy().into_owned();
        // The agent is to find the node's addresses itself.
        let finds = further.iter().any(|(key, _)| *key == "proc");
        let addresses = [node.v4.to_string(), node.v6.to_string()];
        let addresses = addresses.into_iter().filter(|_| !finds);
        let options = [
            ("node-name", node.name.clone()),
            ("cluster-id", "Kubernetes".into()),
            ("trust-domain", "cluster.local".into()),
            ("controller", format!("https://{}", controller.address())),
            ("controller-ca", show(&controller.root_certificate())),
            ("token-file", show(&token)),
            ("cgroup", show(&node.cgroup)),
            ("bpffs", show(&bpffs)),
            ("run-dir", show(&run_dir)),
            ("state-dir", show(&node.dir.join("state"))),
            ("admin-addr", ADMIN.to_string()),
            ("access-log", show(&access_log)),
        ];
        let mut argv = Vec::new();
        if let Some(sabotage) = sabotage {
            let kind = match sabotage {
                Sabotage::Plaintext => "plaintext",
                Sabotage::AllowAll => "allow-all",
            };
            argv.extend(["env".to_owned(), format!("WEFT_SABOTAGE={kind}")]);
        }
        argv.extend([show(&binary), "run".to_owned()]);
        if sabotage == Some(Sabotage::AllowAll) {
            // What is broken is the agent's judgement: it must be asked.
            argv.push("--refuse-in-kernel=false".to_owned());
        }
        argv.extend(
            options
                .into_iter()
                .chain(addresses.map(|address| ("node-address", address)))
                .filter(|(key, _)| further.iter().all(|(other, _)| other != key))
                .chain(further.iter().map(|&(key, value)| (key, value.to_owned())))
                .flat_map(|(key, value)| [format!("--{key}"), value]),
        );
        let mut agent = Self {
            process: None,
            node: node.clone(),
            binary,
            argv,
            run_dir,
            bpffs,
            log: node.dir.join("agent.log"),
            access_log: AccessLog::new(&access_log),
        };
        agent.restart()?;
        Ok(agent)
    }

    /// Changes an option that it was started with, for its next start.
    pub fn set_option(&mut self, key: &str, value: &str) -> Result<()> {
        let flag = format!("--{key}");
        let at = self.argv.iter().position(|word| *word == flag);
        let held = at.and_then(|at| self.argv.get_mut(at + 1));
        *held.with_context(|| format!("the agent has no option {flag}"))? = value.to_owned();
        Ok(())
    }

    /// Starts it again after `kill` or `stop`; it is ready when this returns.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        let netns = self.node.host.netns().to_owned();
        let what = format!("the agent of {} to be ready", self.node.name);
        let process = self.process.as_mut().context("the agent does not run")?;
        process.ready(&what, wait::DEADLINE, |_| {
            Ok(http::get(&netns, READY, "/healthz/ready").is_ok_and(|page| page.status == 200))
        })
    }

    /// Starts it after `kill` or `stop`, ready or not.
    pub fn spawn(&mut self) -> Result<()> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        self.process = Some(self.node.agent.start(&argv, &self.log)?);
        Ok(())
    }

    /// Starts a successor beside it, which takes over; it serves when this returns. The old one's process is
    /// left to drain.
    pub fn succeed(&mut self) -> Result<Process> {
        let readied = |output: &str| {
            output
                .lines()
                .filter(|line| line.ends_with(" ready"))
                .count()
        };
        let before = readied(&self.output());
        let old = self.process.take().context("the agent does not run")?;
        self.spawn()?;
        let what = format!("the successor on {} to be ready", self.node.name);
        let process = self.process.as_mut().context("the agent does not run")?;
        process.ready(&what, wait::DEADLINE, |output| Ok(readied(output) > before))?;
        Ok(old)
    }

    /// Runs the CNI plugin for a pod, as a container runtime does, and returns how that ended.
    pub fn cni(&self, command: &str, pod: &Pod) -> Result<Output> {
        let version = "1.0.0";
        let result = json!({
            "cniVersion": version,
            "ips": pod.addresses().map(|ip| json!({"address": format!("{ip}/32")})),
        });
        let config = json!({
            "cniVersion": version, "name": "lab", "type": "mesh-cni", "prevResult": result,
            "runDir": self.run_dir, "stateDir": self.node.dir.join("state"),
        });
        let binary = programs::binary("mesh-cni")?;
        let mut run = self.node.host.command(&[&binary.to_string_lossy()]);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            pod.namespace,
            pod.name,
            pod.uid()
        );
        run.env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", pod.uid())
            .env("CNI_NETNS", pod.place.netns())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", args);
        shell::capture(&mut run, config.to_string().as_bytes(), ENROL_LIMIT)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .kill()?;
        Ok(())
    }

    /// Asks it to drain and end.
    pub fn stop(&mut self, deadline: Duration) -> Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .stop(deadline)?;
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The node that it serves.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Puts a pod into the mesh: its connections are captured when this returns.
    pub fn enroll(&self, pod: &Pod) -> Result<()> {
        let netns = pod.place.netns().to_string_lossy().into_owned();
        self.command("enroll", pod, &["--netns", &netns])
    }

    /// Takes a pod out of the mesh.
    pub fn unenroll(&self, pod: &Pod) -> Result<()> {
        self.command("unenroll", pod, &[])
    }

    /// The pods that it serves, as `mesh-node list` prints them.
    pub fn list(&self) -> Result<Value> {
        let run_dir = self.run_dir.to_string_lossy();
        let binary = self.binary.to_string_lossy();
        let output = self
            .node
            .host
            .run(&[&binary, "list", "--run-dir", &run_dir], ENROL_LIMIT)?;
        ensure!(output.success(), "mesh-node list: {}", output.summary());
        Ok(serde_json::from_str(&output.stdout)?)
    }

    /// Removes its programs from the kernel. The agent must not run.
    pub fn uninstall(&self) -> Result<()> {
        let bpffs = self.bpffs.to_string_lossy();
        let binary = self.binary.to_string_lossy();
        let output = self
            .node
            .host
            .run(&[&binary, "uninstall", "--bpffs", &bpffs], ENROL_LIMIT)?;
        ensure!(
            output.success(),
            "mesh-node uninstall: {}",
            output.summary()
        );
        Ok(())
    }

    /// The socket on which it is asked to enrol pods.
    pub fn enrolment_socket(&self) -> PathBuf {
        self.run_dir.join("node.sock")
    }

    /// How often the eBPF programs of its node decided something for this reason.
    pub fn decisions(&self, reason: &str) -> Result<u64> {
        let metrics = self.metrics()?;
        let label = format!("reason=\"{reason}\"");
        let counted = metrics
            .lines()
            .filter(|line| line.contains("steering_decisions") && line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next());
        counted.map(|count| Ok(count.parse::<u64>()?)).sum()
    }

    /// The value of the one sample of its metrics that has this name and all these labels; none when there
    /// is no such sample.
    pub fn sample(&self, name: &str, labels: &[&str]) -> Result<Option<u64>> {
        let metrics = self.metrics()?;
        let mut found = metrics.lines().filter(|line| {
            let named = line
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']));
            named && labels.iter().all(|label| line.contains(label))
        });
        let sample = found.next();
        ensure!(
            found.next().is_none(),
            "there are several samples of {name} with {labels:?}"
        );
        let value = sample.and_then(|line| line.rsplit(' ').next());
        Ok(value.map(str::parse).transpose()?)
    }

    /// The plaintext connections to this workload that its node's kernel refused, by policy.
    pub fn refused(&self, namespace: &str, workload: &str) -> Result<BTreeMap<String, u64>> {
        let labels = format!("{{namespace=\"{namespace}\",workload=\"{workload}\",policy=\"");
        let metrics = self.metrics()?;
        let samples = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix("weft_steering_refused_total")?;
            rest.strip_prefix(&*labels)?.split_once("\"} ")
        });
        let by_policy = samples.map(|(policy, count)| Ok((policy.to_owned(), count.parse()?)));
        by_policy.collect()
    }

    /// Its access log.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Its metrics.
    pub fn metrics(&self) -> Result<String> {
        http::get_ok(self.node.host.netns(), METRICS, "/metrics")
    }

    /// What it knows.
    pub fn config_dump(&self) -> Result<String> {
        http::get_ok(self.node.host.netns(), ADMIN, "/config_dump")
    }

    /// One of its admin pages, decoded.
    pub fn admin<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = http::get_ok(self.node.host.netns(), ADMIN, path)?;
        serde_json::from_str(&body).with_context(|| format!("{path} answered {body}"))
    }

    /// Puts something to one of its admin pages.
    pub fn put(&self, path: &str, body: &str) -> Result<Page> {
        http::put(self.node.host.netns(), ADMIN, path, body)
    }

    /// Waits until it knows, or no longer knows, something of this name.
    pub fn wait_for(&self, name: &str, known: bool) -> Result<()> {
        let what = format!(
            "the agent of {} to {} {name}",
            self.node.name,
            if known { "know" } else { "forget" }
        );
        wait::until_true(&what, wait::DEADLINE, || {
            Ok(self.config_dump()?.contains(name) == known)
        })
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn command(&self, verb: &str, pod: &Pod, rest: &[&str]) -> Result<()> {
        let run_dir = self.run_dir.to_string_lossy();
        let binary = self.binary.to_string_lossy();
        let mut argv = vec![
            &*binary,
            verb,
            "--run-dir",
            &run_dir,
            "--namespace",
            &pod.namespace,
            "--name",
            &pod.name,
        ];
        argv.extend(rest);
        let mut command = self.node.host.command(&argv);
        let output = shell::capture(&mut command, b"", ENROL_LIMIT)?;
        ensure!(
            output.success(),
            "mesh-node {verb} {}: {}",
            pod.key(),
            output.summary()
        );
        Ok(())
    }
}
