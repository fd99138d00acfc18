//! `cargo xtask test`: every test, with cargo's own output.

use crate::exec::{become_command, cargo, is_root};
use crate::{build, setup};
use anyhow::{Result, bail};

/// What to hand to `cargo test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Further arguments for `cargo test`, for example a filter.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Installs, builds, and becomes `cargo test`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the lab needs root (namespaces, cgroups, eBPF); run `sudo cargo xtask test`");
    }
    setup::run(&setup::Needs::bench())?;
    build::binaries()?;
    build::sabotage()?;
    let mut test = cargo(&["test", "--release", "--workspace", "--exclude", "mesh-ebpf"]);
    test.args(&args.rest).env("WEFT_BIN_DIR", build::bin_dir());
    become_command(test, "is cargo installed?")
}
