//! The cluster of two nodes: built once, brought up and removed by a program of its own.

use super::binaries::{self, CLUSTER};
use super::{dir, images};
use crate::exec::{become_command, cargo, command, is_root, run, step};
use crate::{build, image, setup};
use anyhow::{Result, bail};
use std::process::Command;

/// Brings it up with Weft's images, if they were made.
pub(crate) fn up() -> Result<()> {
    require_root("up")?;
    setup::run(&setup::Needs::cluster(binaries::are_cached(CLUSTER)))?;
    binaries::ensure(CLUSTER)?;
    build_program()?;
    let mut up = program("up");
    for archive in images::make()?.into_iter().chain(image::made()) {
        up.arg("--image").arg(archive);
    }
    become_command(up, "build it with `cargo xtask k8s up`")
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
