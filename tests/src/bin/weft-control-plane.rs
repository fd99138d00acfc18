//! A control plane that stays: `start` prints the path of its configuration, `stop` ends it.
//!
//! `start` leaves a process behind (`serve`) that owns the control plane; `stop` asks it to end.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use lab::kubernetes::{self, ControlPlane};
use lab::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const DEADLINE: Duration = Duration::from_secs(120);

/// Runs etcd and kube-apiserver on loopback.
#[derive(Parser)]
struct Cli {
    /// Where kube-apiserver is, and where the running control plane leaves its files.
    #[arg(long, env = "WEFT_K8S_DIR", default_value = "target/k8s")]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start one, unless it runs, and print the path of its KUBECONFIG.
    Start,
    /// Stop it.
    Stop,
    /// Run one until SIGTERM.
    Serve,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.verb {
        Verb::Start => start(&cli.dir),
        Verb::Stop => stop(&cli.dir),
        Verb::Serve => serve(&cli.dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control plane: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("control-plane.pid")
}

fn kubeconfig(dir: &Path) -> PathBuf {
    dir.join("kubeconfig")
}

/// The process that serves, if it runs: its id may belong to another program by now.
fn running(dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file(dir)).ok()?;
    let id: i32 = text.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let is_ours = command.split(|byte| *byte == 0).any(|arg| arg == b"serve");
    is_ours.then(|| Pid::from_raw(id)).flatten()
}

fn start(dir: &Path) -> Result<()> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("there is no {}", dir.display()))?;
    if running(&dir).is_none() {
        let _ = fs::remove_file(kubeconfig(&dir));
        let log = dir.join("control-plane.log");
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut serve = Command::new(std::env::current_exe()?);
        serve.arg("--dir").arg(&dir).arg("serve");
        serve.env("WEFT_K8S_DIR", &dir).stdin(Stdio::null());
        serve.stdout(output.try_clone()?).stderr(output);
        // Of its own: a Ctrl-C in the terminal is not for it.
        let mut child = serve.process_group(0).spawn()?;
        fs::write(pid_file(&dir), child.id().to_string())?;
        wait::until_true("the control plane", DEADLINE, || {
            if let Some(status) = child.try_wait()? {
                let text = fs::read_to_string(&log).unwrap_or_default();
                bail!("it ended with {status}:\n{text}");
            }
            Ok(kubeconfig(&dir).exists())
        })?;
    }
    println!("{}", kubeconfig(&dir).display());
    Ok(())
}

fn stop(dir: &Path) -> Result<()> {
    let Some(pid) = running(dir) else {
        eprintln!("control plane: none runs");
        return Ok(());
    };
    kill_process(pid, Signal::TERM).context("cannot send SIGTERM")?;
    wait::until_true("its end", DEADLINE, || Ok(running(dir).is_none()))
}

#[tokio::main]
async fn serve(dir: &Path) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let control_plane = ControlPlane::start().await?;
    kubernetes::crds::install(&control_plane.client().await?).await?;
    // Whole or not at all: `start` waits for it.
    let draft = dir.join("kubeconfig.new");
    fs::copy(control_plane.kubeconfig(), &draft)?;
    fs::rename(draft, kubeconfig(dir))?;
    terminate.recv().await;
    drop(control_plane);
    fs::remove_file(kubeconfig(dir))?;
    fs::remove_file(pid_file(dir))?;
    Ok(())
}
