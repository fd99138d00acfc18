//! The keeper of a node's listeners: it ends with the lab.

use crate::topology::Node;
use crate::{programs, wait};
use anyhow::Result;

/// Starts a keeper; its socket is there when this returns.
pub(crate) fn start(node: &Node) -> Result<String> {
    let socket = node.dir.join("keeper.sock");
    let shown = socket.to_string_lossy().into_owned();
    let binary = programs::binary("mesh-node")?;
    let argv = [&*binary.to_string_lossy(), "keeper", "--socket", &shown];
    let mut process = node.host.start(&argv, &node.dir.join("keeper.log"))?;
    process.ready("the keeper's socket", wait::DEADLINE, |_| {
        Ok(socket.exists())
    })?;
    Ok(shown)
}
