//! kubectl, for the cluster on this machine or for any other.

use crate::cluster::{Layout, NODES};
use crate::netns;
use crate::shell::{self, Output};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Nothing that is asked of kubectl takes longer; what waits says so itself.
const LIMIT: Duration = Duration::from_secs(400);

/// kubectl for one cluster.
pub struct Kubectl {
    prefix: Vec<String>,
}

impl Kubectl {
    /// For the cluster on this machine.
    pub fn own(layout: &Layout) -> Self {
        let netns = netns::path(NODES[0].netns);
        let words = [
            "nsenter".to_owned(),
            format!("--net={}", netns.display()),
            "kubectl".into(),
            "--kubeconfig".into(),
            layout.kubeconfig().display().to_string(),
        ];
        Self {
            prefix: words.to_vec(),
        }
    }

    /// For the cluster that this file names.
    pub fn of(kubeconfig: &Path) -> Self {
        let words = ["kubectl".to_owned(), "--kubeconfig".into()];
        let file = kubeconfig.display().to_string();
        Self {
            prefix: words.into_iter().chain([file]).collect(),
        }
    }

    /// Runs it with this input; it must succeed.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        if !output.success() {
            bail!(
                "`kubectl {}`: {}",
                arguments.join(" "),
                output.stderr.trim()
            );
        }
        Ok(output.stdout)
    }

    /// Runs it; it must succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    /// What `get` shows, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let all = [&["get", "-o", "json"][..], arguments].concat();
        serde_json::from_str(&self.run(&all)?).context("kubectl printed no JSON")
    }

    /// Creates or changes these objects, as the owner of every field in them.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let owner = "--field-manager=weft";
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            owner,
            "-f",
            "-",
        ];
        self.run_with(&apply, &list.to_string()).map(drop)
    }

    /// Runs a command in a pod, and tells how it ended.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<Output> {
        let all = [&["-n", namespace, "exec", pod, "--"][..], command].concat();
        self.output(&all, "")
    }

    /// The command, to be started by the caller.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let (program, first) = self.prefix.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(first).args(arguments);
        Ok(command)
    }

    fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        shell::capture(&mut self.command(arguments)?, input.as_bytes(), LIMIT)
    }
}
