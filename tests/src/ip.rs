//! iproute2 in batches: one process for many links, addresses and routes.

use crate::shell;
use anyhow::Result;

/// Runs these `ip` commands, one a line, inside the named namespace.
pub(crate) fn batch(netns: &str, lines: &str) -> Result<()> {
    shell::run_with(&["ip", "-n", netns, "-batch", "-"], lines.as_bytes())?;
    Ok(())
}
