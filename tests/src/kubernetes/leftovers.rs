//! The directories of control planes. One that a killed process left behind goes when the next starts.

use crate::owner::Owner;
use anyhow::{Context as _, Result};
use std::fs;
use tempfile::TempDir;

const PREFIX: &str = "weft-k8s-";

/// A new directory, which says whose it is.
pub(super) fn directory() -> Result<TempDir> {
    sweep()?;
    let directory = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .context("cannot make a directory for the control plane")?;
    Owner::current()?.write(directory.path())?;
    Ok(directory)
}

fn sweep() -> Result<()> {
    let root = std::env::temp_dir();
    let entries = fs::read_dir(&root).with_context(|| format!("cannot read {}", root.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One without an owner is being made.
        if is_ours && Owner::read(&path).is_some_and(|owner| !owner.is_alive()) {
            // Another process may be at it too.
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_owns_any_more_is_removed() {
        let mine = directory().unwrap();
        let dead = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        // No process has this id: the kernel's limit is below it.
        fs::write(dead.path().join("owner"), "4194305 1\n").unwrap();
        let nobodys = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        sweep().unwrap();
        assert!(mine.path().exists() && nobodys.path().exists());
        assert!(!dead.path().exists());
    }
}
