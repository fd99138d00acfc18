//! Finds the agent's own cgroup, by which the programs tell it from the applications.
//!
//! It is looked for below the captured cgroup, not read from `/proc/self/cgroup`: that path is
//! relative to a cgroup namespace, and says nothing in a container.

use rustix::fs::statfs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::DatapathError;

const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// The kernel's id of a cgroup.
pub(super) fn id(cgroup: &Path) -> Result<u64, DatapathError> {
    let failed = |source| DatapathError::Cgroup(cgroup.to_owned(), source);
    let filesystem = statfs(cgroup).map_err(|e| failed(e.into()))?;
    if filesystem.f_type != CGROUP2_MAGIC {
        return Err(failed(io::Error::other("not a cgroup of version 2")));
    }
    Ok(fs::metadata(cgroup).map_err(failed)?.ino())
}

/// The id of the cgroup that this process is in, which must be below `captured`.
pub(super) fn agent_id(captured: &Path) -> Result<u64, DatapathError> {
    id(captured)?;
    match find(captured, std::process::id()) {
        Some(own) if own != captured => id(&own),
        _ => Err(DatapathError::AgentCgroup(captured.to_owned())),
    }
}

fn find(root: &Path, process: u32) -> Option<PathBuf> {
    let mut pending = vec![root.to_owned()];
    while let Some(cgroup) = pending.pop() {
        // A cgroup may end while we look, and a threaded one refuses to list processes.
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        if processes.lines().any(|line| line.parse() == Ok(process)) {
            return Some(cgroup);
        }
        let entries = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        pending.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
    }
    None
}
