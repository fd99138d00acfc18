//! The programs that ship, linked statically against musl, so that an image holds nothing else.
//!
//! Neither the workspace's path nor the user's is in them: the same sources, toolchain and C compiler give the
//! same bytes in any directory.

use crate::exec::{cargo, command, output, root, run, step, target_dir};
use crate::setup::STATIC_TARGET;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The packages and programs of the one build that all images share.
const PACKAGES: [&str; 2] = ["mesh-node", "mesh-ctl"];

/// A profile of Cargo.toml that images may be built with.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As released: slow to build, small and fast.
    Dist,
    /// For development: builds faster.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
        }
    }
}

/// The processor for which images are made, as OCI names it.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// The packages whose crates are linked into the programs.
pub(crate) fn packages() -> &'static [&'static str] {
    &PACKAGES
}

/// Builds the programs and tells in which directory they are.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let name = profile.name();
    step(
        &format!("build the programs for {STATIC_TARGET} (profile {name})"),
        || compile(name),
    )?;
    Ok(target_dir().join(STATIC_TARGET).join(name))
}

fn compile(profile: &str) -> Result<()> {
    let mut build = cargo(&["build", "--locked", "--bins", "--profile", profile]);
    build.args(["--target", STATIC_TARGET]);
    // Symbols stay, so that panics and profiles name functions; line tables would treble the size.
    build.args(["--config", &format!("profile.{profile}.debug=false")]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let hidden = hidden_paths()?;
    let rust: Vec<String> = hidden
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
        .collect();
    let c: Vec<String> = hidden
        .iter()
        .map(|(path, name)| format!("-ffile-prefix-map={}={name}", path.display()))
        .collect();
    build.env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f"));
    let variable = format!("CFLAGS_{}", STATIC_TARGET.replace('-', "_"));
    build.env(variable, c.join(" "));
    // The C of the cryptography is compiled by the compiler alone, which is the same everywhere.
    build.env("AWS_LC_SYS_CMAKE_BUILDER", "0");
    run(build, "read the compiler's message above")
}

/// Paths that must not be in what ships, and what stands there instead. A path comes before those above it.
fn hidden_paths() -> Result<Vec<(PathBuf, &'static str)>> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => Path::new(&std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo"),
    };
    let sysroot = output(command("rustc", &["--print", "sysroot"]))
        .context("`rustc --print sysroot` does not run; install rustup (https://rustup.rs)")?;
    // The last prefix that fits is taken.
    Ok(vec![
        (root().to_owned(), "/weft"),
        (target_dir(), "/weft/target"),
        (cargo_home, "/cargo"),
        (PathBuf::from(sysroot.trim()), "/rust"),
    ])
}

/// Reads a program and makes sure that it is one that images may hold.
pub(crate) fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let path = directory.join(name);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if has_interpreter(&bytes).with_context(|| format!("{} is no program", path.display()))? {
        bail!(
            "{} is linked dynamically, and an image has no libraries; build it for a musl target",
            path.display()
        );
    }
    for (hidden, _) in hidden_paths()? {
        let text = hidden.to_string_lossy().into_owned();
        if contains(&bytes, text.as_bytes()) {
            bail!(
                "{} names {text}, so the same sources would give another program elsewhere; find what \
                 records it with `strings`, and remap it in xtask/src/image/programs.rs",
                path.display()
            );
        }
    }
    Ok(bytes)
}

/// Whether an ELF program of 64 bits, little-endian, asks for a dynamic loader (`PT_INTERP`).
fn has_interpreter(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: [u8; 4] = 3_u32.to_le_bytes();
    let number = |at: usize, length: usize| -> Result<usize> {
        let bytes = elf.get(at..at + length).context("it is cut short")?;
        let mut word = [0; 8];
        word[..length].copy_from_slice(bytes);
        Ok(usize::try_from(u64::from_le_bytes(word))?)
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("it is not ELF of 64 bits");
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let header = table + index * size;
        let kind = elf.get(header..header + 4).context("it is cut short")?;
        if kind == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_told_from_others() {
        // The tests themselves are linked against the C library of the machine.
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&this).unwrap());
        let mut header = vec![0; 64 + 56];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[32] = 64;
        header[54] = 56;
        header[56] = 1;
        header[64] = 1;
        assert!(!has_interpreter(&header).unwrap());
        header[64] = 3;
        assert!(has_interpreter(&header).unwrap());
        assert!(has_interpreter(&header[..70]).is_ok());
        assert!(has_interpreter(b"#!/bin/sh").is_err());
    }

    #[test]
    fn a_program_that_names_the_build_is_refused() {
        let directory = std::env::temp_dir().join(format!("weft-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        fs::write(directory.join("clean"), &program).unwrap();
        program.extend(root().join("src/main.rs").to_string_lossy().as_bytes());
        fs::write(directory.join("dirty"), &program).unwrap();
        let clean = read(&directory, "clean");
        let dirty = read(&directory, "dirty");
        fs::remove_dir_all(&directory).unwrap();
        assert!(clean.is_ok());
        let error = dirty.unwrap_err().to_string();
        assert!(error.contains("remap"), "{error}");
    }
}
