//! The cluster of two nodes: built once, brought up and removed by a program of its own.

use super::binaries::{self, CLUSTER};
use super::{dir, images};
use crate::exec::{become_command, cargo, command, is_root, run, step};
use crate::{build, image, setup};
use anyhow::{Result, anyhow, bail};
use std::process::Command;
use std::thread;

/// Brings it up with Weft's images, if they were made.
pub(crate) fn up() -> Result<()> {
    require_root("up")?;
    setup::run(&setup::Needs::cluster(binaries::are_cached(CLUSTER)))?;
    binaries::ensure(CLUSTER)?;
    build_program()?;
    become_command(up_with_images()?, "build it with `cargo xtask k8s up`")
}

fn up_with_images() -> Result<Command> {
    let mut up = program("up");
    for archive in images::make()?.into_iter().chain(image::made()) {
        up.arg("--image").arg(archive);
    }
    Ok(up)
}

/// What the suite acts on.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// With KUBECONFIG: where its nodes find the images, REPOSITORY/mesh-node and REPOSITORY/mesh-controller.
    #[arg(long, value_name = "NAME", default_value = image::REPOSITORY)]
    repository: String,
    /// The images' tag.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
}

/// Installs Weft into the cluster and shows what it does.
pub(crate) fn test(args: &Test) -> Result<()> {
    let mut test = program("test");
    if std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty()) {
        eprintln!(
            "xtask: KUBECONFIG is set, so Weft is installed into the cluster that it names; this takes the rights of a \
             cluster administrator, and the images {}/* where its nodes find them",
            args.repository
        );
        setup::run(&setup::Needs::build())?;
        build_program()?;
        test.args(["--repository", &args.repository, "--tag", &args.tag]);
    } else {
        require_root("test")?;
        setup::run(&setup::Needs::cluster(binaries::are_cached(CLUSTER)))?;
        // The Go build has long stretches on one core, and so has ours.
        let kubernetes = thread::spawn(|| binaries::ensure(CLUSTER));
        let images = image::ensure();
        let kubernetes = kubernetes.join();
        images?;
        kubernetes.map_err(|_| anyhow!("the build of Kubernetes panicked"))??;
        build_program()?;
        run(up_with_images()?, "see `cargo xtask k8s up`")?;
        test.args([
            "--repository",
            image::REPOSITORY,
            "--tag",
            env!("CARGO_PKG_VERSION"),
        ]);
    }
    become_command(test, "build it with `cargo xtask k8s up`")
}

/// Removes it.
pub(crate) fn down() -> Result<()> {
    require_root("down")?;
    build_program()?;
    become_command(program("down"), "build it with `cargo xtask k8s up`")
}

fn require_root(verb: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("nodes need root (namespaces, cgroups, eBPF); run `sudo cargo xtask k8s {verb}`")
}

fn build_program() -> Result<()> {
    step("build the program that runs the cluster", || {
        let args = "build --release -p mesh-tests --bin weft-cluster";
        let args: Vec<&str> = args.split(' ').collect();
        run(cargo(&args), "fix the errors above")
    })
}

fn program(verb: &str) -> Command {
    let program = build::bin_dir().join("weft-cluster");
    let mut program = command(&program.to_string_lossy(), &[verb]);
    program.env("WEFT_K8S_DIR", dir());
    program
}
