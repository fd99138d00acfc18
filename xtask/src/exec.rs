//! Running other programs: every failure names the command and what to do about it.

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// The directory that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Runs one step and says on stderr what it is, how it ended and how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("xtask: {what} ...");
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!(
        "xtask: {what}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}

/// A command in the workspace's root, free of the variables with which cargo ran this program.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo` with these arguments.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command("cargo", args)
}

/// Runs the command to its end with its output on stderr; `advice` says what to do when it fails.
pub(crate) fn run(mut command: Command, advice: &str) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    let shown = show(&command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`; {advice}"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}; {advice}");
    }
    Ok(())
}

/// The stdout of a command that succeeds, or nothing when it cannot run or fails.
pub(crate) fn output(mut command: Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Becomes the command: its output, its signals and its exit code are the caller's.
pub(crate) fn become_command(mut command: Command, advice: &str) -> Result<()> {
    let shown = show(&command);
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{shown}`; {advice}"))
}

/// True when this process may install packages and make namespaces.
pub(crate) fn is_root() -> bool {
    output(command("id", &["-u"])).is_some_and(|uid| uid.trim() == "0")
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let _ = write!(shown, " {}", arg.to_string_lossy());
    }
    shown
}
