//! Finds the files of a directory and tells cheaply whether any of them changed.
//!
//! Symbolic links are followed, and names that begin with a dot are not entered: this is how a
//! mounted ConfigMap is laid out (`file -> ..data/file`, `..data -> ..2026_01_01`).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Problem;

/// Deeper nesting is taken for a loop of links.
const MAX_DEPTH: usize = 16;
/// A file of Kubernetes objects is not larger than this.
const MAX_FILE: u64 = 64 << 20;

/// Identifies the content of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files of one scan, by path.
pub(super) type Scan = BTreeMap<PathBuf, Stamp>;

/// Lists every `*.yaml`, `*.yml` and `*.json` below `root`.
pub(super) fn scan(root: &Path) -> Result<Scan, Problem> {
    let mut found = Scan::new();
    enter(root, 0, &mut found)?;
    Ok(found)
}

fn enter(directory: &Path, depth: usize, found: &mut Scan) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(problem(
            directory,
            "is nested too deeply; is there a loop of links?",
        ));
    }
    let cannot_read = |e: std::io::Error| {
        problem(
            directory,
            &format!("cannot read the directory: {e}; check that it exists"),
        )
    };
    for entry in std::fs::read_dir(directory).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // Follows links; one that leads nowhere is reported when it looks like configuration.
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if is_configuration(&path) => {
                return Err(problem(&path, &format!("cannot read the file: {e}")));
            }
            Err(_) => continue,
        };
        if metadata.is_dir() {
            enter(&path, depth + 1, found)?;
        } else if metadata.is_file() && is_configuration(&path) {
            if metadata.len() > MAX_FILE {
                return Err(problem(&path, "is larger than 64 MiB; split it"));
            }
            let stamp = Stamp {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            };
            found.insert(path, stamp);
        }
    }
    Ok(())
}

fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

fn problem(path: &Path, message: &str) -> Problem {
    Problem {
        file: path.to_owned(),
        document: None,
        object: None,
        message: message.to_owned(),
    }
}
