//! The lab's own bpffs: what is pinned in it goes away with it.

use crate::shell;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// Mounts a bpffs at `dir`, which is made.
pub(crate) fn mount(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    shell::run(&["mount", "-t", "bpf", "bpf", &dir.to_string_lossy()])?;
    Ok(())
}

/// Removes every pin and unmounts; nothing happens when it is not mounted.
pub(crate) fn unmount(dir: &Path) -> Result<()> {
    while is_mounted(dir)? {
        for entry in fs::read_dir(dir)?.flatten() {
            // What the kernel itself put there (progs.debug, maps.debug) refuses, and pins nothing.
            let path = entry.path();
            if path.is_dir() {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove the pins in {}", path.display()))?;
            } else {
                let _kernels_own = fs::remove_file(&path);
            }
        }
        shell::run(&["umount", &dir.to_string_lossy()])?;
    }
    Ok(())
}

fn is_mounted(dir: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    let dir = dir.to_string_lossy();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*dir)))
}
