//! Another node proxy, given by its path: one process a node, pods handed over by ZDS, certificates
//! from the lab's controller, workloads from a local file. Its variables are those of ztunnel.

mod message;
mod redirect;
mod workloads;
mod zds;

use crate::mesh::{Mesh, PodSpec};
use crate::process::Process;
use crate::tokens::Claims;
use crate::topology::{Node, Pod};
use crate::{http, wait};
use anyhow::Result;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

const READY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);

/// A proxy to compare with: `NAME=PATH`.
#[derive(Clone, Debug)]
pub struct PeerPath {
    /// What the report calls it.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
}

impl FromStr for PeerPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not NAME=PATH"))?;
        let path = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            path,
        })
    }
}

/// A pod and the service account that it runs as.
pub(super) struct Member {
    pub(super) pod: Pod,
    pub(super) account: String,
}

impl Member {
    /// The pod of this specification.
    pub(super) fn new(pod: Pod, spec: &PodSpec<'_>) -> Self {
        Self {
            pod,
            account: spec.account.to_owned(),
        }
    }

    fn uid(&self) -> String {
        format!("Kubernetes//Pod/{}/{}", self.pod.namespace, self.pod.name)
    }
}

/// The workloads that the proxies are told of.
pub(super) struct Pods<'a> {
    /// They are in the mesh from the start.
    pub(super) members: &'a [Member],
    /// They are described, and handed over later.
    pub(super) waiting: &'a [Member],
    /// How many there are of those that run elsewhere.
    pub(super) crowd: usize,
}

/// The proxy's process on one node.
pub(super) struct Peer {
    process: Process,
    session: zds::Session,
    node: Node,
}

impl Peer {
    /// Starts the proxy on this node for the members that run there, and redirects their connections to
    /// it; all of `pods` are in its workload file.
    pub(super) fn start(program: &Path, mesh: &Mesh, node: &Node, pods: &Pods<'_>) -> Result<Self> {
        let members = pods.members;
        let file = node.dir.join("workloads.yaml");
        fs::write(&file, workloads::file(&mesh.lab, pods)?)?;
        let token = node.dir.join("token");
        fs::write(&token, mesh.issuer.token(&Claims::agent(&node.name))?)?;
        let socket = node.dir.join("zds.sock");
        let listener = zds::Listener::bind(&socket)?;

        let show = |path: &Path| path.to_string_lossy().into_owned();
        let variables = [
            ("INPOD_UDS", show(&socket)),
            ("NODE_NAME", node.name.clone()),
            ("CLUSTER_ID", "Kubernetes".into()),
            ("LOCAL_XDS_PATH", show(&file)),
            ("XDS_ADDRESS", String::new()),
            (
                "CA_ADDRESS",
                format!("https://{}", mesh.controller.address()),
            ),
            ("CA_ROOT_CA", show(&mesh.controller.root_certificate())),
            ("AUTH_TOKEN", show(&token)),
        ];
        let mut argv = vec!["env".to_owned()];
        argv.extend(variables.map(|(name, value)| format!("{name}={value}")));
        argv.push(show(program));
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let process = node.agent.start(&argv, &node.dir.join("peer.log"))?;
        let mut peer = match hand_over(&listener, node, members) {
            Ok(session) => Self {
                process,
                session,
                node: node.clone(),
            },
            Err(error) => {
                return Err(error.context(format!("the proxy printed:\n{}", process.tail())));
            }
        };
        peer.wait_until_ready()?;
        for member in members.iter().filter(|m| m.pod.node == node.number) {
            redirect::install(&member.pod)?;
        }
        Ok(peer)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its node.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Hands a pod over; the proxy serves it when this returns. Its connections are not redirected.
    pub(super) fn add(&self, member: &Member) -> Result<()> {
        self.session
            .add(&member.uid(), &member.account, &member.pod)
    }

    /// The cgroup of its process.
    pub(super) fn cgroup(&self) -> &Path {
        self.node.agent.cgroup()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let netns = self.node.host.netns().to_owned();
        let what = format!("the proxy of {} to be ready", self.node.name);
        self.process.ready(&what, wait::DEADLINE, |_| {
            Ok(http::get(&netns, READY, "/healthz/ready").is_ok_and(|page| page.status == 200))
        })
    }
}

fn hand_over(listener: &zds::Listener, node: &Node, members: &[Member]) -> Result<zds::Session> {
    let session = listener.accept()?;
    for member in members.iter().filter(|m| m.pod.node == node.number) {
        session.add(&member.uid(), &member.account, &member.pod)?;
    }
    session.snapshot_sent()?;
    Ok(session)
}
