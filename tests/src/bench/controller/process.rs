//! The controller in a process of its own, and what that process uses.

use super::Size;
use super::node::Net;
use crate::tokens::{Claims, Issuer};
use crate::{programs, usage, wait};
use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A process is at rest when its memory has changed by less than this, bytes,
const CALM: u64 = 512 << 10;
/// for so long.
const CALM_FOR: Duration = Duration::from_secs(1);

/// A running controller.
pub(super) struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    issuer: Issuer,
    net: Net,
    _dir: TempDir,
}

impl Process {
    /// Starts it with a mesh of that size; it serves when this returns.
    pub(super) fn start(size: Size) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let issuer = Issuer::new("https://bench.example")?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("jwks.json"), issuer.key_set()?.to_string())?;
        fs::create_dir(at("config"))?;
        let mut child = Command::new(programs::binary("lab-controller")?)
            .args(["--workloads", &size.workloads.to_string()])
            .args(["--nodes", &size.nodes.to_string()])
            .args(["--config-dir", &at("config"), "--ca-dir", &at("ca")])
            .args(["--jwks-file", &at("jwks.json"), "--server-name=127.0.0.1"])
            .args(["--listen=127.0.0.1:0", "--admin-addr=127.0.0.1:0"])
            .args(["--node-account", "weft-system/weft-node"])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start lab-controller")?;
        let requests = child.stdin.take();
        let mut line = String::new();
        let output = child.stdout.take().context("no stdout")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.split_whitespace().next();
        let address = address.context("the controller did not start")?.parse()?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(dir.path().join("ca/root-cert.pem"))? {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            child,
            requests,
            issuer,
            net: Net {
                address,
                tls: Arc::new(tls),
            },
            _dir: dir,
        })
    }

    pub(super) fn net(&self) -> Net {
        self.net.clone()
    }

    pub(super) fn token(&self, node: &str) -> Result<String> {
        self.issuer.token(&Claims::agent(node))
    }

    /// Makes a pod ready, or unready.
    pub(super) fn touch(&mut self, pod: u32) -> Result<()> {
        let requests = self.requests.as_mut().context("no stdin")?;
        writeln!(requests, "touch {pod}")?;
        Ok(requests.flush()?)
    }

    /// Its memory once it is at rest, bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        let now = || usage::resident(self.child.id());
        let (mut calm, mut since) = (now()?, Instant::now());
        wait::until(
            "the controller to be at rest",
            Duration::from_secs(60),
            || {
                let used = now()?;
                if used.abs_diff(calm) >= CALM {
                    (calm, since) = (used, Instant::now());
                }
                Ok((since.elapsed() >= CALM_FOR).then_some(used))
            },
        )
    }

    /// The processor time that it has used, seconds.
    pub(super) fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name, which is in parentheses: state, then ten numbers, then the two times.
        let (_, rest) = stat.rsplit_once(')').context("no name")?;
        let ticks: Vec<u64> = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        ensure!(ticks.len() == 2, "no times");
        let hertz = rustix::param::clock_ticks_per_second();
        Ok(ticks.iter().sum::<u64>() as f64 / hertz as f64)
    }

    /// For whoever wants to profile it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
