//! A mesh-controller in the lab: on node 1's network, outside every node's cgroup.

use crate::config::Config;
use crate::process::Process;
use crate::tokens::Issuer;
use crate::topology::Lab;
use crate::{http, place::Place, programs, shell, wait};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

const PORT: u16 = 15012;
const ADMIN_PORT: u16 = 15014;
/// The ports of a second replica are this much higher.
const REPLICA_PORTS: u16 = 100;

/// The controller's process and its files.
#[derive(Debug)]
pub struct Controller {
    process: Option<Process>,
    place: Place,
    argv: Vec<String>,
    address: SocketAddr,
    admin: SocketAddr,
    ca_dir: PathBuf,
    log: PathBuf,
}

impl Controller {
    /// Starts it; it serves and its root certificate is there when this returns.
    pub fn start(lab: &Lab, config: &Config, issuer: &Issuer) -> Result<Self> {
        let dir = lab.dir().join("controller");
        fs::create_dir_all(&dir)?;
        let key_set = dir.join("jwks.json");
        fs::write(&key_set, issuer.key_set()?.to_string())?;
        let ca_dir = dir.join("ca");
        let node = lab.node(1)?;
        let address = SocketAddr::new(node.v4.into(), PORT);
        let admin = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ADMIN_PORT);
        let show = |path: &Path| path.to_string_lossy().into_owned();
        let options = [
            ("config-dir", show(config.dir())),
            ("listen", address.to_string()),
            ("admin-addr", admin.to_string()),
            ("ca-dir", show(&ca_dir)),
            ("trust-domain", "cluster.local".into()),
            ("cluster-id", "Kubernetes".into()),
            ("root-namespace", "istio-system".into()),
            ("jwks-file", show(&key_set)),
            ("token-audience", "istio-ca".into()),
            ("token-issuer", issuer.name().to_owned()),
            ("node-account", "weft-system/weft-node".into()),
            ("server-name", node.v4.to_string()),
        ];
        let mut argv = vec![show(&programs::binary("mesh-controller")?)];
        argv.extend(
            options
                .into_iter()
                .flat_map(|(key, value)| [format!("--{key}"), value]),
        );
        let place = lab.outside(1, "controller")?;
        let log = dir.join("controller.log");
        let mut controller = Self {
            process: None,
            place,
            argv,
            address,
            admin,
            ca_dir,
            log,
        };
        controller.restart()?;
        Ok(controller)
    }

    /// Starts a second replica beside this one, with the same sources and the same authority.
    pub fn replica(&self, lab: &Lab) -> Result<Self> {
        let moved =
            |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + REPLICA_PORTS);
        let (address, admin) = (moved(self.address), moved(self.admin));
        let mut argv = self.argv.clone();
        for argument in &mut argv {
            if *argument == self.address.to_string() {
                *argument = address.to_string();
            } else if *argument == self.admin.to_string() {
                *argument = admin.to_string();
            }
        }
        let mut replica = Self {
            process: None,
            place: lab.outside(1, "controller-2")?,
            argv,
            address,
            admin,
            ca_dir: self.ca_dir.clone(),
            log: self.log.with_file_name("controller-2.log"),
        };
        replica.restart()?;
        Ok(replica)
    }

    /// Starts it again after `kill`.
    pub fn restart(&mut self) -> Result<()> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        let mut process = self.place.start(&argv, &self.log)?;
        let (netns, root) = (self.place.netns().to_owned(), self.root_certificate());
        let admin = self.admin;
        process.ready("mesh-controller to be ready", wait::DEADLINE, |_| {
            let page = http::get(&netns, admin, "/healthz/ready");
            Ok(root.exists() && page.is_ok_and(|page| page.status == 200))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the controller does not run")?
            .kill()?;
        Ok(())
    }

    /// Gives it one more option, for its next start.
    pub fn add_option(&mut self, key: &str, value: &str) {
        self.argv.extend([format!("--{key}"), value.to_owned()]);
    }

    /// Runs `mesh-controller ca` on its certificate authority.
    pub fn ca(&self, arguments: &[&str]) -> Result<String> {
        let binary = self.argv.first().context("the controller has no binary")?;
        let mut command = Command::new(binary);
        command.arg("ca").args(arguments);
        command.arg("--ca-dir").arg(&self.ca_dir);
        let output = shell::capture(&mut command, b"", wait::DEADLINE)?;
        ensure!(output.success(), "{arguments:?}: {}", output.summary());
        Ok(output.stdout)
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let page = self.admin("/metrics")?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.parse()?)
    }

    /// Where agents reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root certificate, with which agents check it.
    pub fn root_certificate(&self) -> PathBuf {
        self.ca_dir.join("root-cert.pem")
    }

    /// The directory of its certificate authority.
    pub fn ca_dir(&self) -> &Path {
        &self.ca_dir
    }

    /// A page of its admin listener.
    pub fn admin(&self, path: &str) -> Result<String> {
        http::get_ok(self.place.netns(), self.admin, path)
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }
}
