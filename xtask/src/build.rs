//! `cargo xtask build`: the release binaries, and the agent that the lab breaks on purpose.

use crate::exec::{cargo, run as run_command, step, target_dir};
use crate::setup;
use anyhow::Result;
use std::path::PathBuf;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also build the agent with its `sabotage` feature, into target/sabotage.
    #[arg(long)]
    sabotage: bool,
}

/// Builds what `args` name, with the prerequisites that takes.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Needs::build())?;
    binaries()?;
    if args.sabotage {
        sabotage()?;
    }
    Ok(())
}

/// Where the release binaries are.
pub(crate) fn bin_dir() -> PathBuf {
    target_dir().join("release")
}

/// Where the agent with the `sabotage` feature is.
pub(crate) fn sabotage_dir() -> PathBuf {
    target_dir().join("sabotage").join("release")
}

/// Builds the agent and the controller.
pub(crate) fn binaries() -> Result<()> {
    step("build mesh-node and mesh-controller", || {
        let args = [
            "build",
            "--release",
            "--bins",
            "-p",
            "mesh-node",
            "-p",
            "mesh-ctl",
        ];
        run_command(cargo(&args), "fix the errors above")
    })
}

/// Builds the demo's own binary.
pub(crate) fn demo() -> Result<()> {
    step("build the demo", || {
        let args = [
            "build",
            "--release",
            "-p",
            "mesh-tests",
            "--bin",
            "weft-demo",
        ];
        run_command(cargo(&args), "fix the errors above")
    })
}

/// Builds the agent that can be told to misbehave, apart from the one that ships.
pub(crate) fn sabotage() -> Result<()> {
    step("build mesh-node with the sabotage feature", || {
        let dir = target_dir().join("sabotage");
        let mut build = cargo(&["build", "--release", "-p", "mesh-node", "--bins"]);
        build
            .args(["--features", "sabotage", "--target-dir"])
            .arg(dir);
        run_command(build, "fix the errors above")
    })
}
