//! Where a command runs: inside one network namespace and one cgroup, as a container's process does.

use crate::process::Process;
use crate::shell::{self, Output};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Joins the cgroup, then becomes the command: the process id stays the same throughout.
const JOIN: &str = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;

/// A network namespace and a cgroup.
#[derive(Clone, Debug)]
pub struct Place {
    netns: PathBuf,
    cgroup: PathBuf,
}

impl Place {
    pub(crate) const fn new(netns: PathBuf, cgroup: PathBuf) -> Self {
        Self { netns, cgroup }
    }

    /// The file that stands for the network namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// The cgroup's directory.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The words that run a command here, to be typed in a shell.
    pub fn prefix(&self) -> Vec<String> {
        // nsenter, not `ip netns exec`: that would hide the host's cgroup and bpf file systems.
        vec![
            "sh".into(),
            "-c".into(),
            JOIN.into(),
            self.cgroup.to_string_lossy().into_owned(),
            "nsenter".into(),
            format!("--net={}", self.netns.display()),
        ]
    }

    /// A command that will run here.
    pub fn command(&self, argv: &[&str]) -> Command {
        let prefix = self.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg("--").args(argv);
        command
    }

    /// Runs the command to its end; an exit code other than 0 is no error, exceeding `limit` is.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Output> {
        shell::capture(&mut self.command(argv), b"", limit)
    }

    /// Starts the command and leaves it running until it is stopped or the lab ends.
    pub fn start(&self, argv: &[&str], log: &Path) -> Result<Process> {
        Process::spawn(self.command(argv), log)
    }
}
