//! A mesh-controller in the lab: on node 1's network, outside every node's cgroup.

use crate::config::Config;
use crate::process::Process;
use crate::tokens::Issuer;
use crate::topology::Lab;
use crate::{http, place::Place, programs, wait};
use anyhow::{Context as _, Result};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const PORT: u16 = 15012;
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15014);

/// The controller's process and its files.
#[derive(Debug)]
pub struct Controller {
    process: Option<Process>,
    place: Place,
    argv: Vec<String>,
    address: SocketAddr,
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
        let show = |path: &Path| path.to_string_lossy().into_owned();
        let options = [
            ("config-dir", show(config.dir())),
            ("listen", address.to_string()),
            ("admin-addr", ADMIN.to_string()),
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
            ca_dir,
            log,
        };
        controller.restart()?;
        Ok(controller)
    }

    /// Starts it again after `kill`.
    pub fn restart(&mut self) -> Result<()> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        let mut process = self.place.start(&argv, &self.log)?;
        let (netns, root) = (self.place.netns().to_owned(), self.root_certificate());
        process.ready("mesh-controller to be ready", wait::DEADLINE, |_| {
            let page = http::get(&netns, ADMIN, "/healthz/ready");
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
        http::get_ok(self.place.netns(), ADMIN, path)
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }
}
