//! The cluster's own groups in every hierarchy of this machine.

use super::layout::NAME;
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cgroup hierarchy.
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub(super) kind: String,
    /// The options that name it.
    pub(super) options: String,
}

/// All that are mounted.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    Ok(parse(&mounts))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let of_line = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = filesystem.split(' ');
        let (kind, options) = (words.next()?, words.nth(1)?);
        matches!(kind, "cgroup" | "cgroup2").then(|| Hierarchy {
            mount: mount.split(' ').nth(4).unwrap_or_default().into(),
            kind: kind.to_owned(),
            options: options.to_owned(),
        })
    };
    mountinfo.lines().filter_map(of_line).collect()
}

/// This release of kubelet has been seen to work where version 1 and version 2 are both mounted, and only there.
pub(super) fn require_hybrid() -> Result<()> {
    let all = hierarchies()?;
    let has = |kind: &str| all.iter().any(|hierarchy| hierarchy.kind == kind);
    ensure!(
        has("cgroup") && has("cgroup2"),
        "the nodes need cgroups of version 1 and, beside them, version 2 (`mount -t cgroup2 none \
         /sys/fs/cgroup/unified`); on this machine use kind or any other cluster: \
         `KUBECONFIG=... cargo xtask k8s test`"
    );
    Ok(())
}

/// Moves this process into the cluster's group `name`, in every hierarchy.
pub(super) fn enter(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.mount.join(NAME);
        let own = top.join(name);
        for group in [&top, &own] {
            fs::create_dir_all(group)
                .with_context(|| format!("cannot make the cgroup {}", group.display()))?;
            // A new group of `cpuset` may run nowhere.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let from = hierarchy.mount.join(file);
                if hierarchy.kind == "cgroup" && from.exists() {
                    fs::write(group.join(file), fs::read(&from)?)
                        .with_context(|| format!("cannot set {file} of {}", group.display()))?;
                }
            }
        }
        fs::write(own.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot enter the cgroup {}", own.display()))?;
    }
    Ok(())
}

/// The node's group of version 2, which is its root as it sees it.
pub(super) fn root_of(name: &str) -> Result<PathBuf> {
    let all = hierarchies()?;
    let unified = all.iter().find(|hierarchy| hierarchy.kind == "cgroup2");
    let unified = unified.context("no cgroup of version 2 is mounted")?;
    Ok(unified.mount.join(NAME).join(name))
}

/// Ends whatever runs in the cluster's groups, and removes them.
pub(super) fn remove() -> Result<()> {
    let tops: Vec<(PathBuf, bool)> = hierarchies()?
        .into_iter()
        .map(|hierarchy| (hierarchy.mount.join(NAME), hierarchy.kind == "cgroup2"))
        .filter(|(top, _)| top.exists())
        .collect();
    for (top, _) in tops.iter().filter(|(_, can_kill)| *can_kill) {
        fs::write(top.join("cgroup.kill"), "1")
            .with_context(|| format!("cannot end what runs in {}", top.display()))?;
    }
    for (top, _) in &tops {
        let what = format!("the cgroup {} to empty", top.display());
        wait::until_true(&what, Duration::from_secs(30), || {
            Ok(remove_tree(top).is_ok())
        })?;
    }
    Ok(())
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn hierarchies_are_told_by_their_options() {
        let all = parse(
            "31 29 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu\n\
             33 31 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        );
        let shown: Vec<_> = all
            .iter()
            .map(|h| {
                (
                    h.mount.to_str().unwrap(),
                    h.kind.as_str(),
                    h.options.as_str(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("/sys/fs/cgroup/cpu", "cgroup", "rw,cpu"),
                ("/sys/fs/cgroup/unified", "cgroup2", "rw"),
            ]
        );
    }
}
