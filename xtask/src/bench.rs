//! `cargo xtask bench`: measurements of the mesh beside no mesh and beside others.

use crate::exec::{become_command, command, is_root};
use crate::{build, setup};
use anyhow::{Result, bail};

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Throughput, latency, new connections, CPU time and memory of the data plane.
    Dataplane(Dataplane),
}

/// How the data plane is measured.
#[derive(clap::Args)]
pub(crate) struct Dataplane {
    /// Another node proxy that speaks ZDS and takes ztunnel's variables.
    #[arg(long, value_name = "NAME=PATH")]
    peer: Option<String>,
    /// How often every load runs for every contender; a published report takes at least 5.
    #[arg(long)]
    rounds: Option<u32>,
    /// How long each run is measured, seconds.
    #[arg(long)]
    seconds: Option<u32>,
    /// Only loads whose name begins so, for example `bulk-1,rtt-64b`.
    #[arg(long, value_name = "LOAD[,..]")]
    only: Option<String>,
    /// Only these contenders, for example `direct,weft`.
    #[arg(long, value_name = "NAME[,..]")]
    contenders: Option<String>,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
}

/// Installs, builds, and becomes the benchmark.
pub(crate) fn run(what: &Command) -> Result<()> {
    match what {
        Command::Dataplane(args) => dataplane(args),
    }
}

fn dataplane(args: &Dataplane) -> Result<()> {
    if !is_root() {
        bail!(
            "the lab needs root (namespaces, cgroups, eBPF); run `sudo cargo xtask bench dataplane`"
        );
    }
    setup::run(&setup::Needs::bench())?;
    build::binaries()?;
    build::bench()?;
    let bin_dir = build::bin_dir();
    let mut bench = command(&bin_dir.join("weft-bench").to_string_lossy(), &[]);
    bench.env("WEFT_BIN_DIR", &bin_dir);
    // The benchmark runs in the workspace's root, which need not be the caller's directory.
    let peer = args.peer.as_deref().map(absolute).transpose()?;
    let rounds = args.rounds.map(|rounds| rounds.to_string());
    let seconds = args.seconds.map(|seconds| seconds.to_string());
    for (flag, value) in [
        ("--peer", &peer),
        ("--rounds", &rounds),
        ("--seconds", &seconds),
        ("--only", &args.only),
        ("--contenders", &args.contenders),
    ] {
        if let Some(value) = value {
            bench.args([flag, value]);
        }
    }
    if args.json {
        bench.arg("--json");
    }
    become_command(bench, "is the release binary built?")
}

fn absolute(peer: &str) -> Result<String> {
    let Some((name, path)) = peer.split_once('=') else {
        bail!("{peer:?} is not NAME=PATH");
    };
    let path = std::path::absolute(path)?;
    Ok(format!("{name}={}", path.display()))
}
