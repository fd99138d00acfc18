//! `cargo xtask demo`: the mesh on two nodes, with real applications and the evidence.

use crate::exec::{become_command, command};
use crate::{build, setup};
use anyhow::Result;

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// Leave the lab up at the end and print how to enter each pod.
    #[arg(long)]
    keep: bool,
    /// Break the agents on purpose: the demo must notice and exit 1.
    #[arg(long, value_parser = ["plaintext", "allow-all"])]
    sabotage: Option<String>,
    /// Remove a lab that `--keep` left up, and do nothing else.
    #[arg(long, conflicts_with_all = ["json", "keep", "sabotage"])]
    clean: bool,
}

/// Installs, builds, and becomes the demo.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Needs::lab())?;
    build::demo()?;
    if !args.clean {
        build::binaries()?;
    }
    let bin_dir = build::bin_dir();
    let mut demo = command(&bin_dir.join("weft-demo").to_string_lossy(), &[]);
    demo.env("WEFT_BIN_DIR", &bin_dir);
    for (flag, wanted) in [
        ("--json", args.json),
        ("--keep", args.keep),
        ("--clean", args.clean),
    ] {
        if wanted {
            demo.arg(flag);
        }
    }
    if let Some(kind) = &args.sabotage {
        build::sabotage()?;
        demo.args(["--sabotage", kind]);
    }
    become_command(demo, "build it with `cargo xtask build`")
}
