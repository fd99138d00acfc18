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

/// How deep below the root of the hierarchy kubelet's groups may be.
const KUBEPODS_DEPTH: usize = 4;
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

/// The cgroup above all pods, wherever version 2 is mounted: `kubepods` (cgroupfs driver) or
/// `kubepods.slice` (systemd driver), also where kubelet has them below a group of its own. Of several, the one
/// that this process is in. None before kubelet has made it.
///
/// # Errors
/// The mounts cannot be read.
pub fn find_kubepods() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let roots = mounted.filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
    let mut found: Vec<PathBuf> = roots.flat_map(|root| kubepods_below(&root)).collect();
    let own = std::process::id();
    if found.len() > 1 {
        found.sort_by_key(|group| find(group, own).is_none());
    }
    Ok(found.into_iter().next())
}

fn kubepods_below(root: &Path) -> Vec<PathBuf> {
    let is_kubepods = |group: &PathBuf| {
        let name = group.file_name().and_then(|name| name.to_str());
        let stem = name.map(|name| name.strip_suffix(".slice").unwrap_or(name));
        stem.is_some_and(|stem| stem == "kubepods" || stem.ends_with("-kubepods"))
    };
    let mut level = vec![root.to_owned()];
    for _ in 0..KUBEPODS_DEPTH {
        level = level.iter().flat_map(|group| children(group)).collect();
        let found: Vec<_> = level.iter().filter(|g| is_kubepods(g)).cloned().collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn find(root: &Path, process: u32) -> Option<PathBuf> {
    let mut pending = vec![root.to_owned()];
    while let Some(cgroup) = pending.pop() {
        // A cgroup may end while we look, and a threaded one refuses to list processes.
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        if processes.lines().any(|line| line.parse() == Ok(process)) {
            return Some(cgroup);
        }
        pending.extend(children(&cgroup));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_above_all_pods_is_found_for_either_driver() {
        for path in [
            "kubepods",
            "kubepods.slice",
            "kube/node1/kubepods",
            "kubelet.slice/kubelet-kubepods.slice",
        ] {
            let root = tempfile::tempdir().unwrap();
            let group = root.path().join(path);
            fs::create_dir_all(group.join("burstable/kubepods")).unwrap();
            fs::create_dir_all(root.path().join("system.slice/kubelet.service")).unwrap();
            assert_eq!(kubepods_below(root.path()), [group], "{path}");
        }
        let none = tempfile::tempdir().unwrap();
        assert!(kubepods_below(none.path()).is_empty());
    }
}
