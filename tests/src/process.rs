//! Processes that stay: each with a log file, each stopped within a deadline.

use crate::shell;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running process. It ends with `stop`, with `kill` or with the lab, not when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    shown: String,
}

impl Process {
    /// Starts the command; its output goes to `log`, its input is open for `write_line`.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        // A group of its own: a Ctrl-C in the terminal is the lab's to handle.
        command.process_group(0);
        let shown = shell::show(&command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
            shown,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Writes a line to its stdin.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its stdin is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("cannot write to `{}`", self.shown))
    }

    /// Closes its stdin, which tells some programs to end.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Polls until `check` holds; an error as soon as the process ends or when `deadline` passes.
    pub fn ready(
        &mut self,
        what: &str,
        deadline: Duration,
        mut check: impl FnMut(&str) -> Result<bool>,
    ) -> Result<()> {
        let waited = wait::until_true(what, deadline, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("`{}` ended with {status}", self.shown);
            }
            check(&self.output())
        });
        waited.with_context(|| format!("{what} never came; it printed:\n{}", self.tail()))
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.shown);
        wait::until(&what, deadline, || Ok(self.child.try_wait()?))
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it does not.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, Signal::TERM).context("cannot send SIGTERM")?;
        }
        match self.wait(deadline) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error)
            }
        }
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}
