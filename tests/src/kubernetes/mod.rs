//! A Kubernetes control plane without nodes: etcd and kube-apiserver on loopback, on ports that are
//! free, with keys made for this run. Nothing schedules, runs or deletes anything in it: an object is
//! what a test makes of it.

pub mod crds;
mod etcd;
mod forwarder;
mod keeper;
mod leftovers;
mod pki;

pub use forwarder::Forwarder;

use crate::process::Process;
use anyhow::{Context as _, Result, bail, ensure};
use etcd::Etcd;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Who issues the tokens of service accounts.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// A cold start on a busy machine takes some seconds.
const DEADLINE: Duration = Duration::from_secs(90);
/// Ports are found before they are used: another program may be faster.
const ATTEMPTS: usize = 3;

/// A running control plane; it ends when this value is dropped, and with this process in any case.
pub struct ControlPlane {
    apiserver: Option<Process>,
    etcd: Etcd,
    port: u16,
    directory: TempDir,
}

impl ControlPlane {
    /// Starts one that is ready to serve.
    pub async fn start() -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::try_start().await {
                Ok(started) => return Ok(started),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => eprintln!("lab: no control plane yet: {error:#}"),
            }
            attempt += 1;
        }
    }

    async fn try_start() -> Result<Self> {
        let directory = leftovers::directory()?;
        let [port, client, peer] = free_ports()?;
        pki::write(directory.path(), port)?;
        let etcd = Etcd::start(directory.path(), client, peer)?;
        let mut started = Self {
            apiserver: None,
            etcd,
            port,
            directory,
        };
        started.start_apiserver().await?;
        Ok(started)
    }

    /// The administrator's configuration.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join(pki::KUBECONFIG)
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The directory of its files; `token` and the keys of service accounts are there.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A client with every right.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Starts the API server, again over what etcd holds if it ran before, and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        ensure!(self.apiserver.is_none(), "the API server runs already");
        let log = self.directory.path().join("apiserver.log");
        let process = keeper::spawn(self.apiserver_command()?, &log)?;
        let process = self.apiserver.insert(process);
        let client = {
            let kubeconfig = Kubeconfig::read_from(self.directory.path().join(pki::KUBECONFIG))?;
            let options = KubeConfigOptions::default();
            Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &options).await?)?
        };
        let start = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = process.exited()? {
                bail!("kube-apiserver ended with {status}:\n{}", process.tail());
            }
            ensure!(
                start.elapsed() < DEADLINE,
                "kube-apiserver is not ready after {DEADLINE:?}:\n{}",
                process.tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the API server (SIGKILL); etcd and what it holds stay.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        let mut process = self
            .apiserver
            .take()
            .context("the API server does not run")?;
        process.kill()?;
        Ok(())
    }

    /// Makes etcd forget every revision but the newest. The API server must be restarted to forget
    /// those that it holds itself.
    pub fn compact(&self) -> Result<()> {
        self.etcd.compact()
    }

    fn apiserver_command(&self) -> Result<Command> {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(apiserver_binary()?);
        for (flag, value) in [
            ("etcd-servers", self.etcd.url()),
            ("bind-address", "127.0.0.1".into()),
            ("advertise-address", "127.0.0.1".into()),
            ("secure-port", self.port.to_string()),
            ("tls-cert-file", at(pki::SERVER_CERTIFICATE)),
            ("tls-private-key-file", at(pki::SERVER_KEY)),
            ("client-ca-file", at(pki::CA)),
            ("service-account-issuer", ISSUER.into()),
            ("service-account-key-file", at(pki::ACCOUNTS_PUBLIC)),
            ("service-account-signing-key-file", at(pki::ACCOUNTS_KEY)),
            (
                "service-cluster-ip-range",
                "10.96.0.0/12,fd00:96::/108".into(),
            ),
            (
                "feature-gates",
                "IPv6DualStack=true,EndpointSliceTerminatingCondition=true".into(),
            ),
            ("authorization-mode", "Node,RBAC".into()),
            ("allow-privileged", "true".into()),
            // It would wait for accounts that a controller makes.
            ("disable-admission-plugins", "ServiceAccount".into()),
            // The endpoint of the API server itself would be on loopback, which is refused.
            ("endpoint-reconciler-type", "none".into()),
        ] {
            command.arg(format!("--{flag}={value}"));
        }
        Ok(command)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(mut apiserver) = self.apiserver.take()
            && let Err(error) = apiserver.kill()
        {
            eprintln!("lab: cannot end kube-apiserver: {error:#}");
        }
    }
}

/// A token of a service account for `audience`, bound to a pod if one is named, valid for `lifetime` (at
/// least ten minutes), as kubelet would ask for it.
pub async fn token(
    client: &Client,
    (namespace, account): (&str, &str),
    audience: &str,
    pod: Option<&str>,
    lifetime: Duration,
) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]),
            expiration_seconds: Some(i64::try_from(lifetime.as_secs())?),
            bound_object_ref: pod.map(|name| BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(name.to_owned()),
                uid: None,
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("no token for {namespace}/{account}"))?;
    let status = answer.status.context("the answer has no status")?;
    status.token.context("the answer has no token")
}

/// `WEFT_K8S_DIR`, or where `cargo xtask k8s build` puts it.
fn apiserver_binary() -> Result<PathBuf> {
    let dir = match std::env::var_os("WEFT_K8S_DIR") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/k8s"),
    };
    let path = dir.join("kube-apiserver");
    ensure!(
        path.is_file(),
        "there is no kube-apiserver in {}: run `cargo xtask k8s build`, or set WEFT_K8S_DIR",
        dir.display()
    );
    Ok(path)
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until all are found, so that they differ.
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("there is no free port on loopback")?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
