//! etcd, and the one thing that tests do to it: compaction.

use super::keeper;
use crate::process::Process;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A running etcd; it ends when this value is dropped.
pub(super) struct Etcd {
    process: Process,
    address: SocketAddr,
}

impl Etcd {
    /// Starts it with its data below `directory`. The API server waits for it.
    pub(super) fn start(directory: &Path, client: u16, peer: u16) -> Result<Self> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "etcd", "--name", "weft"]);
        command.arg("--data-dir").arg(directory.join("etcd"));
        for (flag, value) in [
            ("listen-client-urls", url(client)),
            ("advertise-client-urls", url(client)),
            ("listen-peer-urls", url(peer)),
            ("initial-advertise-peer-urls", url(peer)),
            ("initial-cluster", format!("weft={}", url(peer))),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        // The data need not outlive the machine.
        command.arg("--unsafe-no-fsync");
        let process = keeper::spawn(command, &directory.join("etcd.log"))
            .context("is the Debian package etcd-server installed?")?;
        Ok(Self {
            process,
            address: (Ipv4Addr::LOCALHOST, client).into(),
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn compact(&self) -> Result<()> {
        // Any key will do: every answer tells the revision.
        let answer = self.post("/v3/kv/range", &json!({"key": "AA=="}))?;
        let revision = answer["header"]["revision"].clone();
        ensure!(revision.is_string(), "etcd tells no revision: {answer}");
        let order = json!({"revision": revision, "physical": true});
        self.post("/v3/kv/compaction", &order)?;
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the answer is neither chunked nor followed by anything.
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, answer) = text
            .split_once("\r\n\r\n")
            .context("an answer without a header")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(
            status.contains(" 200 "),
            "etcd answered {status} to {path}: {answer}"
        );
        serde_json::from_str(answer).context("etcd's answer is not JSON")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill() {
            eprintln!("lab: cannot end etcd: {error:#}");
        }
    }
}
