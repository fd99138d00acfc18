//! A real Kubernetes with two nodes on one machine: kubelet, containerd and kube-proxy each twice, in namespaces
//! and cgroups of their own, joined by a veth pair. Nothing of it is linked to the machine's network.
//!
//! Everything it makes is named `weft-k8s` and goes with [`down`], also when it was not brought up completely.

mod cgroups;
mod control_plane;
mod daemon;
mod folders;
mod layout;
mod network;
mod node;
mod pki;
mod sysctls;

pub use daemon::become_member;
pub use layout::{Layout, NODES, Node, WIRE};
pub use node::serve as serve_node;

use crate::shell;
use crate::wait;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A busy machine takes minutes for what an idle one does in 20 seconds.
const DEADLINE: Duration = Duration::from_secs(300);

/// Brings the cluster up, unless it is; what a killed run left behind goes first.
///
/// # Errors
/// When something does not come up; its log is named.
pub fn up(layout: &Layout) -> Result<()> {
    if is_ready(layout) {
        return Ok(());
    }
    down(layout)?;
    cgroups::require_hybrid()?;
    let start = Instant::now();
    let told = |what: &str| eprintln!("k8s: {what} [{:.0} s]", start.elapsed().as_secs_f64());
    fs::create_dir_all(layout.logs())
        .with_context(|| format!("cannot make {}", layout.logs().display()))?;
    sysctls::save(layout)?;
    folders::make(layout)?;
    network::create()?;
    pki::write(&layout.keys())?;
    control_plane::start(layout)?;
    wait::until_true("the API server", DEADLINE, || {
        Ok(kubectl(layout, &["get", "--raw", "/readyz"]).is_ok())
    })
    .with_context(|| layout.see_logs())?;
    told("the API server is ready");
    control_plane::start_controllers(layout)?;
    for node in &NODES {
        node::start(layout, node)?;
    }
    for node in &NODES {
        wait::until_true(&format!("{} to register", node.name), DEADLINE, || {
            Ok(kubectl(layout, &["get", "node", node.name]).is_ok())
        })
        .with_context(|| layout.see_logs())?;
        // Kubernetes would hand the ranges out in the order of registration.
        let range = serde_json::json!({"spec": {"podCIDR": node.pods, "podCIDRs": [node.pods]}});
        kubectl(
            layout,
            &["patch", "node", node.name, "-p", &range.to_string()],
        )?;
    }
    wait::until_true("both nodes to be ready", DEADLINE, || Ok(is_ready(layout)))
        .with_context(|| layout.see_logs())?;
    told("both nodes are ready");
    Ok(())
}

/// Removes everything, also what a killed run left. Ends exactly the processes in the cluster's own cgroups.
///
/// # Errors
/// When something is still there; names it.
pub fn down(layout: &Layout) -> Result<()> {
    let mut problems = Vec::new();
    // Processes first: they hold the rest. The nodes' mounts and attached programs go with them.
    let steps: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("cgroups", &cgroups::remove),
        ("network namespaces", &network::remove),
        ("sysctls", &|| sysctls::restore(layout)),
        ("folders", &|| folders::remove(layout)),
        ("state", &|| remove_state(layout)),
    ];
    for (what, step) in steps {
        if let Err(error) = step() {
            problems.push(format!("{what}: {error:#}"));
        }
    }
    ensure!(
        problems.is_empty(),
        "the cluster is not wholly removed: {}",
        problems.join("; ")
    );
    Ok(())
}

/// Whether both nodes say that they are ready.
pub fn is_ready(layout: &Layout) -> bool {
    if !layout.kubeconfig().exists() || !network::exists() {
        return false;
    }
    let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let Ok(ready) = kubectl(layout, &["get", "nodes", "-o", path]) else {
        return false;
    };
    ready
        .split_whitespace()
        .filter(|word| *word == "True")
        .count()
        == NODES.len()
}

/// Gives every node the image in this tar file.
///
/// # Errors
/// When containerd refuses it.
pub fn import(layout: &Layout, archive: &Path) -> Result<()> {
    for node in &NODES {
        let socket = layout.node(node).join("run/containerd/containerd.sock");
        shell::run(&[
            "ctr",
            "--address",
            &socket.to_string_lossy(),
            "--namespace",
            "k8s.io",
            "images",
            "import",
            &archive.to_string_lossy(),
        ])
        .with_context(|| format!("{} does not take {}", node.name, archive.display()))?;
    }
    Ok(())
}

/// Runs kubectl as administrator and returns what it prints.
///
/// # Errors
/// When it fails; with what it printed.
pub fn kubectl(layout: &Layout, arguments: &[&str]) -> Result<String> {
    let netns = crate::netns::path(NODES[0].netns);
    let entry = format!("--net={}", netns.display());
    let config = layout.kubeconfig();
    let config = config.to_string_lossy();
    let mut argv = vec!["nsenter", &entry, "kubectl", "--kubeconfig", &config];
    argv.extend(["--request-timeout", "10s"]);
    argv.extend(arguments);
    shell::run(&argv)
}

/// What is pinned in the node's bpffs, and what is attached to its groups.
///
/// # Errors
/// When the node does not run.
pub fn left_in_kernel(node: &Node) -> Result<Vec<String>> {
    let group = cgroups::root_of(node.name)?;
    let members = fs::read_to_string(group.join("cgroup.procs"))
        .with_context(|| format!("{} does not run", node.name))?;
    // The node's own daemons have its mounts; containers have others.
    let is_daemon = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "kubelet")
    };
    let daemon = members
        .lines()
        .find(is_daemon)
        .with_context(|| format!("no kubelet runs on {}", node.name))?;
    let pins = format!("/proc/{daemon}/root/sys/fs/bpf");
    let entries = fs::read_dir(&pins).with_context(|| format!("cannot read {pins}"))?;
    let mut left = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // The kernel's own, in every new file system.
        if name != "progs.debug" && name != "maps.debug" {
            left.push(format!("{pins}/{}", name.to_string_lossy()));
        }
    }
    let attached = shell::run(&["bpftool", "cgroup", "tree", &group.to_string_lossy()])?;
    // Lines of programs begin with a number; the others are headings and groups.
    let is_program = |line: &&str| {
        let first = line.split_whitespace().next();
        first.is_some_and(|word| word.parse::<u32>().is_ok())
    };
    left.extend(attached.lines().filter(is_program).map(str::to_owned));
    Ok(left)
}

fn remove_state(layout: &Layout) -> Result<()> {
    let state = layout.state();
    if !state.exists() {
        return Ok(());
    }
    // A mount that survived would be emptied, not removed.
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    let prefix = format!("{}/", state.display());
    if let Some(mount) = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|mount| mount.starts_with(&prefix))
    {
        bail!("{mount} is still mounted; unmount it and try again");
    }
    fs::remove_dir_all(state).with_context(|| format!("cannot remove {}", state.display()))
}
