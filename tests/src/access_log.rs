//! An agent's access log, read as it grows.

use crate::wait;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// When the line was made, RFC 3339.
    pub timestamp: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The client's address and port.
    pub src_addr: Option<String>,
    /// The client's workload.
    pub src_workload: Option<String>,
    /// The client's namespace.
    pub src_namespace: Option<String>,
    /// The client's identity.
    pub src_identity: Option<String>,
    /// The destination's address and port.
    pub dst_addr: Option<String>,
    /// The destination of the tunnelled connection.
    pub dst_hbone_addr: Option<String>,
    /// The service that was asked for.
    pub dst_service: Option<String>,
    /// The destination's workload.
    pub dst_workload: Option<String>,
    /// The destination's namespace.
    pub dst_namespace: Option<String>,
    /// The destination's identity.
    pub dst_identity: Option<String>,
    /// Bytes that the client was sent.
    pub bytes_sent: u64,
    /// Bytes that came from the client.
    pub bytes_recv: u64,
    /// `mutual_tls`, `direct` or `none`.
    pub connection_security_policy: Option<String>,
    /// `allow` or `deny`.
    pub verdict: Option<String>,
    /// The policy that decided, `namespace/name`.
    pub policy: Option<String>,
    /// The rule of that policy.
    pub rule: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// For a default deny the rule that came nearest: `policy`, `rule`, `failed`.
    pub nearest: serde_json::Value,
    /// The AUDIT policies that matched: each `policy` and `rule`.
    pub audit: Vec<serde_json::Value>,
    /// The verdict if policies in dry run were enforced: `verdict`, `policy`, `rule`, `reason`.
    pub dry_run: serde_json::Value,
    /// Istio's response flags.
    pub response_flags: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The same at both ends of a tunnelled connection.
    pub traceparent: Option<String>,
}

impl Entry {
    /// True for a connection between these two workloads.
    pub fn is_between(&self, source: &str, destination: &str) -> bool {
        self.src_workload.as_deref() == Some(source)
            && self.dst_workload.as_deref() == Some(destination)
    }

    /// True when the connection came over mutual TLS.
    pub fn is_mutual_tls(&self) -> bool {
        self.connection_security_policy.as_deref() == Some("mutual_tls")
    }

    /// True when it went from pod to pod on one node without a tunnel.
    pub fn is_direct(&self) -> bool {
        self.connection_security_policy.as_deref() == Some("direct")
    }

    /// True when policy refused it.
    pub fn is_denied(&self) -> bool {
        self.verdict.as_deref() == Some("deny")
    }
}

/// A place in a log, from which on it is read; by default its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(usize);

/// The log file of one agent.
#[derive(Clone, Debug)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Mark {
        Mark(fs::metadata(&self.path).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(0)))
    }

    /// The complete lines after the mark.
    pub fn since(&self, mark: Mark) -> Result<Vec<Entry>> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let fresh = bytes.get(mark.0..).unwrap_or_default();
        let end = fresh.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let text = String::from_utf8_lossy(&fresh[..end]);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| {
                serde_json::from_str(line)
                    .with_context(|| format!("{} has the line {line:?}", self.path.display()))
            })
            .collect()
    }

    /// Waits for a line after the mark that fits.
    pub fn wait(&self, mark: Mark, what: &str, fits: impl Fn(&Entry) -> bool) -> Result<Entry> {
        let what = format!("{what} in {}", self.path.display());
        wait::until(&what, Duration::from_secs(10), || {
            Ok(self.since(mark)?.into_iter().find(|e| fits(e)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::AccessLog;

    #[test]
    fn an_incomplete_line_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let log = AccessLog::new(&file);
        let mark = log.mark();
        let line = r#"{"direction":"inbound","bytes_sent":3,"policy":null,"rule":null}"#;
        std::fs::write(&file, format!("{line}\n{{\"direc")).unwrap();
        let entries = log.since(mark).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].direction.as_str(), entries[0].bytes_sent),
            ("inbound", 3)
        );
        std::fs::write(&file, format!("{line}\n{line}\n")).unwrap();
        assert_eq!(log.since(mark).unwrap().len(), 2);
        std::fs::write(&file, format!("{line}\nnonsense\n")).unwrap();
        assert!(
            log.since(mark)
                .unwrap_err()
                .to_string()
                .contains("nonsense")
        );
    }
}
