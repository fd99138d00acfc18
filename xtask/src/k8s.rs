//! `cargo xtask k8s`: Kubernetes to develop and test against, from Debian packages alone.
//!
//! `start` runs a control plane without nodes: etcd and kube-apiserver on loopback, with certificates and
//! tokens made for one run. Tests start their own; `start` is for people. `up` runs a whole cluster of two nodes.

mod binaries;
mod cluster;
mod images;
mod openapi;
mod package;

use crate::exec::{become_command, cargo, command, run as run_command, step, target_dir};
use crate::{build, setup};
use anyhow::Result;
use binaries::{APISERVER, CLUSTER};
use std::path::PathBuf;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Build kube-apiserver and keep it in target/k8s; nothing is done when it is there.
    Build {
        /// Build also what the nodes of a cluster run.
        #[arg(long)]
        cluster: bool,
    },
    /// Start etcd and kube-apiserver on loopback, apply the CRDs and print the path of a KUBECONFIG. With
    /// KUBECONFIG set, the cluster that it names is used instead and none is started.
    Start,
    /// Stop what `start` started and remove its data.
    Stop,
    /// Bring up a cluster of two nodes on this machine, unless it is up, with Weft's images if there are any, and
    /// print an alias for its kubectl.
    Up,
    /// Remove the cluster of two nodes.
    Down,
    /// Install Weft into a cluster and show, step by step, what it does there: in the cluster of two nodes, which is
    /// brought up, or in the one that KUBECONFIG names.
    Test(cluster::Test),
}

/// Runs the command.
pub(crate) fn run(what: &Command) -> Result<()> {
    match what {
        Command::Build { cluster } => {
            let programs = if *cluster { CLUSTER } else { APISERVER };
            setup::run(&setup::Needs::kubernetes(binaries::are_cached(programs)))?;
            binaries::ensure(programs)
        }
        Command::Start => start(),
        Command::Stop => {
            control_plane_binary()?;
            become_control_plane("stop")
        }
        Command::Up => cluster::up(),
        Command::Down => cluster::down(),
        Command::Test(args) => cluster::test(args),
    }
}

/// Builds the API server when it is missing, for tests.
pub(crate) fn ensure() -> Result<()> {
    binaries::ensure(APISERVER)
}

/// Whether the API server is built and intact.
pub(crate) fn is_cached() -> bool {
    binaries::are_cached(APISERVER)
}

/// Where the API server is kept; tests find it by this.
pub(crate) fn dir() -> PathBuf {
    target_dir().join("k8s")
}

fn start() -> Result<()> {
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        eprintln!("xtask: KUBECONFIG is set, so the cluster that it names is used");
        println!("{}", path.to_string_lossy());
        return Ok(());
    }
    setup::run(&setup::Needs::kubernetes(binaries::are_cached(APISERVER)))?;
    binaries::ensure(APISERVER)?;
    control_plane_binary()?;
    become_control_plane("start")
}

fn control_plane_binary() -> Result<()> {
    step("build the program that runs the control plane", || {
        let args = [
            "build",
            "--release",
            "-p",
            "mesh-tests",
            "--bin",
            "weft-control-plane",
        ];
        run_command(cargo(&args), "fix the errors above")
    })
}

fn become_control_plane(verb: &str) -> Result<()> {
    let program = build::bin_dir().join("weft-control-plane");
    let mut control_plane = command(&program.to_string_lossy(), &[verb]);
    control_plane.env("WEFT_K8S_DIR", dir());
    become_command(control_plane, "build it with `cargo xtask k8s build`")
}
