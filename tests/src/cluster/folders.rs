//! The machine's folders over which each node mounts its own: made where they are missing, and removed again.

use super::layout::{Layout, OWN};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

fn list(layout: &Layout) -> PathBuf {
    layout.state().join("folders-made")
}

/// Makes those that are missing, each after it was written down.
pub(super) fn make(layout: &Layout) -> Result<()> {
    let mut made = String::new();
    for own in OWN {
        let missing: Vec<PathBuf> = Path::new("/")
            .join(own)
            .ancestors()
            .take_while(|path| !path.exists())
            .map(Path::to_owned)
            .collect();
        for path in missing.iter().rev() {
            made += &format!("{}\n", path.display());
            fs::write(list(layout), &made).context("cannot note which folders are made")?;
            fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes those that were made, unless something is in them by now.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    let Ok(made) = fs::read_to_string(list(layout)) else {
        return Ok(());
    };
    for path in made.lines().rev() {
        match fs::remove_dir(path) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
                ) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {path}")),
        }
    }
    Ok(())
}
