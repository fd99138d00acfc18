//! `cargo xtask fuzz`: runs the fuzz targets, one after the other. A crash fails, and the advice says how to
//! see it again.

use crate::exec::{cargo, run as run_command, step};
use crate::setup;
use anyhow::Result;
use std::process::Command;

/// The targets, as `fuzz/Cargo.toml` names them.
const TARGETS: [&str; 6] = [
    "hpack_decode",
    "frames",
    "connection",
    "policy_decode",
    "policy_match",
    "spiffe_id",
];
/// One input that takes longer than this is a failure, seconds. Inputs take milliseconds: so much lets a busy
/// machine pause.
const LONGEST: u32 = 120;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// The target to run; without one, all of them.
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
}

/// Installs, builds, and runs.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Needs::fuzz())?;
    let targets: Vec<&str> = match &args.target {
        Some(target) => vec![target],
        None => TARGETS.to_vec(),
    };
    step("build the fuzz targets", || {
        let mut build = cargo_fuzz("build");
        build.args(&args.target);
        run_command(build, "read the compiler's message above")
    })?;
    for target in targets {
        step(&format!("fuzz {target} for {} s", args.seconds), || {
            let mut fuzz = cargo_fuzz("run");
            fuzz.arg(target)
                .arg("--")
                .arg(format!("-max_total_time={}", args.seconds))
                .arg(format!("-timeout={LONGEST}"))
                .arg("-print_final_stats=1");
            run_command(fuzz, &advice(target))
        })?;
    }
    Ok(())
}

/// The code has no `unsafe`, so no sanitizer is needed, and inputs run several times as fast.
fn cargo_fuzz(verb: &str) -> Command {
    let mut fuzz = cargo(&["fuzz", verb, "--sanitizer", "none"]);
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    fuzz
}

fn advice(target: &str) -> String {
    format!(
        "if an input made it fail, it is the newest file in fuzz/artifacts/{target}: see it again with \
         `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none {target} FILE`, and make it a named test of the \
         crate that failed"
    )
}
