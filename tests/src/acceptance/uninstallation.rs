//! The uninstallation, as docs/install.md has it, and a look at what is left.

use super::application::NAMESPACE;
use super::installation::objects;
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
    delete(&["namespace", NAMESPACE])?;
    delete(&["-n", SYSTEM, "daemonset", "weft-node"])?;
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
        for folder in ["etc/cni/net.d", "opt/cni/bin", "run/weft"] {
            let entries = fs::read_dir(layout.node(node).join(folder))?;
            for entry in entries {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let is_ours =
                    folder == "run/weft" || name.contains("weft") && !name.contains("weft-test");
                ensure!(!is_ours, "{folder}/{name} is left on {}", node.name);
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

fn uninstaller(stage: &Stage, node: &str) -> Value {
    json!({
        "nodeName": node,
        "restartPolicy": "Never",
        "containers": [{
            "name": "uninstall",
            "image": format!("{}/mesh-node:{}", stage.repository, stage.tag),
            "command": ["/usr/local/bin/mesh-node", "uninstall"],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "SYS_ADMIN"]},
            },
            "volumeMounts": [{"name": "bpffs", "mountPath": "/sys/fs/bpf"}],
        }],
        "volumes": [{"name": "bpffs", "hostPath": {"path": "/sys/fs/bpf"}}],
    })
}
