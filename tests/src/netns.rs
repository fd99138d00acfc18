//! Network namespaces: made, removed, and entered by a thread of its own.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

const DIR: &str = "/run/netns";

/// The file that stands for the namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// The names of all namespaces.
pub fn list() -> Vec<String> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Runs `work` inside the namespace, on a thread that ends with it. Its sockets belong to the
/// namespace but to no pod's cgroup: the mesh never captures them.
pub fn within<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(netns).with_context(|| format!("cannot open {}", netns.display()))?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}", netns.display()))?;
            Ok(work())
        });
        match inside.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The TCP ports on which something listens inside the namespace.
pub fn listening(netns: &Path) -> Result<BTreeSet<u16>> {
    let tables = within(netns, || {
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
    })?;
    let mut ports = BTreeSet::new();
    for table in tables {
        let table = table.context("cannot read the namespace's sockets")?;
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, "0A", ..] = words[..] {
                let port = local
                    .rsplit_once(':')
                    .map(|(_, port)| u16::from_str_radix(port, 16));
                ports.insert(port.context("a socket without a port")??);
            }
        }
    }
    Ok(ports)
}

/// Makes a namespace with these settings (paths below /proc/sys/net) and its loopback up.
pub(crate) fn create(name: &str, settings: &[(&str, &str)]) -> Result<PathBuf> {
    shell::run(&["ip", "netns", "add", name])?;
    let path = path(name);
    within(&path, || -> Result<()> {
        for (key, value) in settings {
            let file = Path::new("/proc/sys/net").join(key);
            fs::write(&file, value).with_context(|| format!("cannot set {}", file.display()))?;
        }
        Ok(())
    })??;
    shell::run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
    Ok(path)
}

/// Removes the namespace; nothing happens when it is not there.
pub(crate) fn delete(name: &str) -> Result<()> {
    let removed = shell::run(&["ip", "netns", "delete", name]);
    if path(name).exists() {
        removed?;
        bail!("the namespace {name} is still there");
    }
    Ok(())
}
