//! Programs that go on after the command that started them, in a group of the cluster by which they are ended.

use super::cgroups;
use super::layout::Layout;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a command in the network namespace and in the cluster's group `group`; what it prints goes to `log`.
pub(super) fn start(
    layout: &Layout,
    group: &str,
    netns: &str,
    argv: &[String],
    log: &Path,
) -> Result<()> {
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    // This program enters the group and becomes the command.
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["member", group, "--", "nsenter"])
        .arg(format!("--net={}", crate::netns::path(netns).display()))
        .arg("--")
        .args(argv)
        .env("WEFT_K8S_DIR", layout.programs())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    command
        .spawn()
        .map(drop)
        .with_context(|| format!("cannot start {}", argv.join(" ")))
}

/// Enters the cluster's group and becomes the command.
///
/// # Errors
/// When it cannot; otherwise it does not return.
pub fn become_member(group: &str, argv: &[String]) -> Result<()> {
    cgroups::enter(group)?;
    let (program, arguments) = argv.split_first().context("no command is given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}
