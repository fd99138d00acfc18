//! `cargo xtask test`: every test, with cargo's own output.

use crate::exec::{become_command, cargo, is_root};
use crate::{build, k8s, setup};
use anyhow::{Result, anyhow, bail};
use std::thread;

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
    setup::run(&setup::Needs::tests(k8s::is_cached()))?;
    // The API server's build has long stretches on one core, and so has ours.
    let apiserver = thread::spawn(k8s::ensure);
    let binaries = build::binaries().and_then(|()| build::sabotage());
    let apiserver = apiserver.join();
    binaries?;
    apiserver.map_err(|_| anyhow!("the build of kube-apiserver panicked"))??;
    let mut test = cargo(&["test", "--release", "--workspace", "--exclude", "mesh-ebpf"]);
    test.args(&args.rest)
        .env("WEFT_BIN_DIR", build::bin_dir())
        .env("WEFT_K8S_DIR", k8s::dir());
    become_command(test, "is cargo installed?")
}
