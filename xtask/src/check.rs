//! `cargo xtask check`: everything that can be said about the sources without running them. Every
//! step runs, so that one look shows all that is wrong.

use crate::exec::{cargo, run as run_command, step, target_dir};
use crate::setup;
use anyhow::{Result, bail};
use std::process::Command;

/// The eBPF crate is linted on its own target, which has no prebuilt `core`.
const EBPF_CLIPPY: &[&str] = &[
    "clippy",
    "--quiet",
    "-Z",
    "build-std=core",
    "--target",
    "bpfel-unknown-none",
    "-p",
    "mesh-ebpf",
    "--",
    "-D",
    "warnings",
];
const HOST_CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--exclude",
    "mesh-ebpf",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const SABOTAGE_CLIPPY: &[&str] = &[
    "clippy",
    "-p",
    "mesh-node",
    "--features",
    "sabotage",
    "--",
    "-D",
    "warnings",
];

const FUZZ: &str = "fuzz/Cargo.toml";
const FUZZ_CLIPPY: &[&str] = &[
    "clippy",
    "--manifest-path",
    FUZZ,
    "--locked",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Runs every check and fails with the names of those that failed.
pub(crate) fn run() -> Result<()> {
    setup::run(&setup::Needs::lints())?;
    let mut ebpf = cargo(EBPF_CLIPPY);
    ebpf.env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_dir().join("ebpf-check"));
    let mut docs = cargo(&[
        "doc",
        "--workspace",
        "--exclude",
        "mesh-ebpf",
        "--no-deps",
        "--quiet",
    ]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let checks: Vec<(&str, Command, &str)> = vec![
        (
            "format",
            cargo(&["fmt", "--all", "--check"]),
            "run `cargo fmt --all`",
        ),
        (
            "clippy (host)",
            cargo(HOST_CLIPPY),
            "fix the warnings above",
        ),
        (
            "clippy (agent with sabotage)",
            cargo(SABOTAGE_CLIPPY),
            "fix the warnings above",
        ),
        ("clippy (eBPF)", ebpf, "fix the warnings above"),
        (
            "format (fuzz targets)",
            cargo(&["fmt", "--manifest-path", FUZZ, "--check"]),
            "run `cargo fmt --manifest-path fuzz/Cargo.toml`",
        ),
        (
            "clippy (fuzz targets)",
            cargo(FUZZ_CLIPPY),
            "fix the warnings above",
        ),
        (
            "cargo-deny (bans, licences, sources)",
            cargo(&[
                "deny",
                "--locked",
                "check",
                "--hide-inclusion-graph",
                "bans",
                "licenses",
                "sources",
            ]),
            "see deny.toml",
        ),
        ("documentation", docs, "fix the warnings above"),
    ];
    let mut failed = Vec::new();
    for (name, command, advice) in checks {
        if let Err(error) = step(name, || run_command(command, advice)) {
            eprintln!("xtask: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    Ok(())
}
