//! The uninstallation, as docs/install.md has it, and a look at what is left.

use super::application::NAMESPACE;
use super::installation::objects;
use super::policy::OUTSIDE;
use super::rollout::NEXT;
use super::{Outcome, SYSTEM, Stage};
use crate::cluster::{self, NODES};
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn leaves_nothing(stage: &Stage) -> Result<Outcome> {
    let delete = ["delete", "--ignore-not-found", "--wait", "--timeout=300s"];
    let delete = |what: &[&str]| stage.kubectl.run(&[&delete[..], what].concat());
    delete(&["namespace", NAMESPACE, OUTSIDE])?;
    // The second is there if its step was cut short.
    delete(&["-n", SYSTEM, "daemonset", "weft-node", NEXT])?;
    // The agents are gone, and what they pinned keeps pods closed until it is let go of.
    let nodes = stage.kubectl.get(&["nodes"])?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let node = node["metadata"]["name"]
            .as_str()
            .context("a node without a name")?;
        let_go(stage, node)?;
    }
    let mut shipped = objects(stage)?;
    // The namespace goes last, with what is in it.
    shipped.reverse();
    for object in &shipped {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        if object["metadata"]["namespace"].is_null() {
            delete(&[&kind, name])?;
        }
    }
    let roles = stage.kubectl.get(&["clusterroles,clusterrolebindings"])?;
    for role in roles["items"].as_array().into_iter().flatten() {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        ensure!(!name.starts_with("weft"), "{} {name} is left", role["kind"]);
    }
    let Some(layout) = &stage.own else {
        return Ok(Outcome::Holds(
            "no RBAC object, no namespace; the nodes were not looked into".into(),
        ));
    };
    for node in &NODES {
        let left = cluster::left_in_kernel(node)?;
        ensure!(
            left.is_empty(),
            "left on {}: {}",
            node.name,
            left.join(", ")
        );
        for folder in ["etc/cni/net.d", "opt/cni/bin"] {
            for entry in fs::read_dir(layout.node(node).join(folder))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                ensure!(!name.contains("mesh-cni"), "{} is left", path.display());
                // What is not text is a plugin.
                let text = fs::read_to_string(&path).unwrap_or_default();
                let names_it = folder == "etc/cni/net.d" && text.contains("mesh-cni");
                ensure!(!names_it, "{} still names mesh-cni", path.display());
            }
        }
    }
    Ok(Outcome::Holds(
        "no program, map or pin, no file on a node, no RBAC object, no namespace".into(),
    ))
}

/// Has one node let go of what agents left pinned, and checks that nothing is.
fn let_go(stage: &Stage, node: &str) -> Result<()> {
    let name = format!("weft-uninstall-{node}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": uninstaller(stage, node),
    });
    stage.kubectl.apply(&[pod])?;
    wait::until_true(&format!("{name} to succeed"), DEADLINE, || {
        let pod = stage.kubectl.get(&["-n", SYSTEM, "pod", &name])?;
        let phase = &pod["status"]["phase"];
        ensure!(phase != "Failed", "{name} failed: {}", pod["status"]);
        Ok(phase == "Succeeded")
    })
}

/// First the plugin goes, so that no new pod asks for an agent; then what is pinned.
fn uninstaller(stage: &Stage, node: &str) -> Value {
    let step = |name: &str, command: &[&str], capabilities: &[&str], folders: &[&str]| {
        let mounts: Vec<Value> = folders
            .iter()
            .map(|folder| json!({"name": volume(folder), "mountPath": folder}))
            .collect();
        json!({
            "name": name,
            "image": format!("{}/mesh-node:{}", stage.repository, stage.tag),
            "command": command,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": capabilities},
            },
            "volumeMounts": mounts,
        })
    };
    let folders = ["/etc/cni/net.d", "/opt/cni/bin", "/sys/fs/bpf"];
    let volumes =
        folders.map(|folder| json!({"name": volume(folder), "hostPath": {"path": folder}}));
    json!({
        "nodeName": node,
        "hostNetwork": true,
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [step(
            "plugin",
            &["/usr/local/bin/mesh-cni", "uninstall"],
            &[],
            &folders[..2],
        )],
        "containers": [step(
            "programs",
            &["/usr/local/bin/mesh-node", "uninstall"],
            &["BPF", "NET_ADMIN", "SYS_ADMIN"],
            &folders[2..],
        )],
        "volumes": volumes,
    })
}

/// The name of the volume for a folder of the node.
fn volume(folder: &str) -> String {
    folder.trim_start_matches('/').replace(['/', '.'], "-")
}
