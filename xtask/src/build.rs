//! `cargo xtask build`: the release binaries, and the agent that the lab breaks on purpose.

use crate::exec::{cargo, run as run_command, step, target_dir};
use crate::setup;
use anyhow::Result;
use std::path::PathBuf;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also build the agent with its `sabotage` feature, as mesh-node-sabotaged.
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

/// Builds the agent, the controller and meshctl.
pub(crate) fn binaries() -> Result<()> {
    step("build mesh-node, mesh-controller and meshctl", || {
        cargo_build("--release --bins -p mesh-node -p mesh-ctl")
    })
}

/// Builds the demo's own binary.
pub(crate) fn demo() -> Result<()> {
    step("build the demo", || {
        cargo_build("--release -p mesh-tests --bin weft-demo")
    })
}

/// Where the programs are as they ship.
pub(crate) fn dist_dir() -> PathBuf {
    target_dir().join("dist")
}

/// Builds what is measured as it ships (the profile `dist`), with the benchmark and its load generator.
pub(crate) fn bench() -> Result<()> {
    step("build the programs as they ship, and the benchmark", || {
        cargo_build(
            "--profile dist -p mesh-node -p mesh-ctl -p mesh-tests --bin mesh-node --bin mesh-controller --bin weft-bench --bin lab-load",
        )
    })
}

/// Builds the controller with a source for its benchmark, as the controller ships, and the benchmark.
pub(crate) fn bench_controller() -> Result<()> {
    step("build the controller, and its benchmark", || {
        cargo_build("--profile dist -p mesh-tests --bin lab-controller --bin weft-bench-controller")
    })
}

/// Builds the benchmark of the policy decision, as programs ship.
pub(crate) fn bench_policy() -> Result<()> {
    step("build the benchmark of policy", || {
        cargo_build("--profile dist -p mesh-tests --bin weft-bench-policy")
    })
}

/// Builds the agent that can be told to misbehave, beside the one that ships and under another name.
pub(crate) fn sabotage() -> Result<()> {
    step(
        "build mesh-node-sabotaged, for the demo's own checks",
        || cargo_build("--release -p mesh-node --features sabotage --bin mesh-node-sabotaged"),
    )
}

/// `cargo build` with these words.
fn cargo_build(words: &str) -> Result<()> {
    let args = std::iter::once("build").chain(words.split(' '));
    run_command(cargo(&args.collect::<Vec<_>>()), "fix the errors above")
}
