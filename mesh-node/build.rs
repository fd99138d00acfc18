//! Builds the eBPF programs (mesh-ebpf) for their own target; the agent carries the object.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const FLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];
/// What stands in the programs' line information for the paths of this build, which differ from machine to machine.
const WORKSPACE: &str = "/weft";
const CARGO_HOME: &str = "/cargo";
const SYSROOT: &str = "/rust";

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    for source in [
        "mesh-ebpf",
        "mesh-common/Cargo.toml",
        "mesh-common/src/lib.rs",
        "mesh-common/src/abi.rs",
        "mesh-common/src/abi",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed=../{source}");
    }
    println!("cargo::rerun-if-env-changed=PATH");
    if env::var("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        return Err("mesh-node is built for little-endian machines only".into());
    }
    let sysroot = require_tools()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // A directory of its own: the outer cargo holds the lock of the usual one.
    let target = out.join("ebpf");
    let mut cargo = Command::new(env::var("CARGO")?);
    // Flags, wrappers and targets meant for the agent (clippy, a cross build) are not for the programs.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = matches!(
            &*text,
            "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_HTTP_CAINFO"
        );
        if (text.starts_with("CARGO") && !kept) || text.starts_with("RUSTC") || text == "RUSTFLAGS"
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .current_dir("..")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&sysroot)?)
        .args([
            "build",
            "--release",
            "--quiet",
            "-Z",
            "build-std=core",
            "--package",
            "mesh-ebpf",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .status()?;
    if !status.success() {
        return Err("the eBPF programs do not build: see above".into());
    }
    fs::copy(
        target.join(TARGET).join("release/mesh-ebpf"),
        out.join("mesh-ebpf"),
    )?;
    Ok(())
}

/// The compiler's flags, as cargo encodes them.
fn flags(sysroot: &str) -> Result<String, Box<dyn Error>> {
    let workspace = fs::canonicalize("..")?;
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    let mut remap = |path: &Path, name: &str| {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    };
    remap(&workspace, WORKSPACE);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    if let Some(home) = env::var_os("CARGO_HOME").map(PathBuf::from).or(home) {
        remap(&home, CARGO_HOME);
    }
    remap(Path::new(sysroot), SYSROOT);
    Ok(flags.join("\x1f"))
}

/// What the build needs beside the compiler is installed by one command. Tells where the compiler is.
fn require_tools() -> Result<String, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|directory| directory.join("bpf-linker").is_file()) {
        return Err("bpf-linker is not in PATH: run `cargo xtask setup` first".into());
    }
    let rustc = Command::new(env::var("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()?;
    let sysroot = String::from_utf8(rustc.stdout)?.trim().to_owned();
    if !Path::new(&sysroot)
        .join("lib/rustlib/src/rust/library/core")
        .is_dir()
    {
        return Err(
            "the Rust sources (rust-src) are missing: run `cargo xtask setup` first".into(),
        );
    }
    Ok(sysroot)
}
