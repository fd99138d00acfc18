//! Where the mesh's programs are: `WEFT_BIN_DIR`, or beside the program that runs.

use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;

/// The release binary of this name.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("WEFT_BIN_DIR") {
        Some(dir) => dir.into(),
        None => beside()?,
    };
    let path = dir.join(name);
    ensure!(
        path.is_file(),
        "there is no {name} in {}: run `cargo xtask build --sabotage`, or set WEFT_BIN_DIR",
        dir.display()
    );
    Ok(path.canonicalize()?)
}

/// The directory of this program; tests are one level below.
fn beside() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let dir = program
        .parent()
        .context("this program is in no directory")?;
    let tests = dir.file_name().is_some_and(|name| name == "deps");
    Ok(if tests {
        dir.join("..")
    } else {
        dir.to_owned()
    })
}
