//! The benchmark's world: Weft on nodes 1 and 2; nodes 3 and 4, on which no eBPF program is attached,
//! for the pods that no proxy touches and for the peer.
//!
//! Every contender has a client on one node, a server on that node and a server on the next.

use super::contender::{Contender, Via};
use super::peer::{Member, Peer, PeerPath};
use super::web;
use crate::agent::Agent;
use crate::config::Config;
use crate::controller::Controller;
use crate::mesh::{Mesh, PodSpec};
use crate::process::Process;
use crate::tokens::Issuer;
use crate::topology::{Lab, Pod};
use crate::{netns, programs, wait};
use anyhow::{Context as _, Result};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The port of the load generator's server.
const LOAD_PORT: u16 = 7000;
/// Ports enough for many short connections; those that were closed are taken again soon.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/ip_local_port_range", "16384 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
];

/// Where the load of one contender runs.
pub(super) struct Arm {
    /// Whose it is.
    pub(super) contender: Contender,
    /// The pod that sends.
    pub(super) client: Pod,
    /// The pod that answers.
    pub(super) server: Pod,
    /// The load generator's server.
    pub(super) load: SocketAddr,
    /// The web server.
    pub(super) web: SocketAddr,
    /// The proxies between them, each once.
    pub(super) proxies: Vec<Proxy>,
}

impl Arm {
    /// The cgroups of the proxies.
    pub(super) fn cgroups(&self) -> Vec<PathBuf> {
        self.proxies
            .iter()
            .map(|proxy| proxy.cgroup.clone())
            .collect()
    }
}

/// A proxy's process.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Its process id.
    pub(super) pid: u32,
    /// The cgroup in which it alone runs.
    pub(super) cgroup: PathBuf,
}

/// A client and the two servers that it calls.
struct Trio {
    client: Pod,
    far: Pod,
    near: Pod,
}

/// Everything that runs. The lab ends it.
pub(super) struct World {
    /// The ways to measure.
    pub(super) arms: Vec<Arm>,
    /// The cgroup above all that runs here.
    pub(super) cgroup: PathBuf,
    _servers: Vec<Process>,
    _peers: Vec<Peer>,
    _mesh: Mesh,
}

impl World {
    /// Starts what these contenders need.
    pub(super) fn build(contenders: &[Contender], peer: Option<&PeerPath>) -> Result<Self> {
        let mut mesh = start_mesh()?;
        let mut world = Parts::default();
        let uses = |via: &Via| contenders.iter().any(|contender| contender.via == *via);
        if uses(&Via::Direct) {
            let trio = trio(&mut mesh, "plain", [3, 4], Mesh::add_pod)?;
            world.add(&Via::Direct, &trio, &[])?;
        }
        if uses(&Via::Weft) {
            let trio = trio(&mut mesh, "bench", [1, 2], Mesh::add_enrolled)?;
            let proxies = mesh.agents.iter().map(|agent| {
                let pid = agent.pid().context("an agent does not run")?;
                Ok(Proxy {
                    pid,
                    cgroup: agent.node().agent.cgroup().to_owned(),
                })
            });
            let proxies = proxies.collect::<Result<Vec<_>>>()?;
            world.add(&Via::Weft, &trio, &proxies)?;
        }
        let mut peers = Vec::new();
        if let Some(path) = peer.filter(|peer| uses(&Via::Peer(peer.name.clone()))) {
            let mut members = Vec::new();
            let trio = trio(&mut mesh, "peer", [3, 4], |mesh, spec| {
                let pod = mesh.add_pod(spec)?;
                members.push(Member::new(pod.clone(), spec));
                Ok(pod)
            })?;
            for number in [3, 4] {
                let node = mesh.lab.node(number)?;
                let started = Peer::start(&path.path, &mesh, node, &members);
                peers.push(started.with_context(|| format!("{} on node {number}", path.name))?);
            }
            let proxies: Vec<Proxy> = peers.iter().map(proxy).collect();
            world.add(&Via::Peer(path.name.clone()), &trio, &proxies)?;
        }
        world.arms.retain(|arm| contenders.contains(&arm.contender));
        Ok(Self {
            arms: world.arms,
            cgroup: mesh.lab.cgroup().to_owned(),
            _servers: world.servers,
            _peers: peers,
            _mesh: mesh,
        })
    }
}

fn proxy(peer: &Peer) -> Proxy {
    Proxy {
        pid: peer.pid(),
        cgroup: peer.cgroup().to_owned(),
    }
}

#[derive(Default)]
struct Parts {
    arms: Vec<Arm>,
    servers: Vec<Process>,
}

impl Parts {
    /// Starts the servers of a trio and adds its two arms.
    fn add(&mut self, via: &Via, trio: &Trio, proxies: &[Proxy]) -> Result<()> {
        for (same_node, server) in [(false, &trio.far), (true, &trio.near)] {
            self.servers.push(serve(server)?);
            self.servers.push(web::start(server)?);
            let count = if same_node { 1 } else { 2 };
            self.arms.push(Arm {
                contender: Contender {
                    via: via.clone(),
                    same_node,
                },
                client: trio.client.clone(),
                server: server.clone(),
                load: SocketAddr::new(server.v4.into(), LOAD_PORT),
                web: SocketAddr::new(server.v4.into(), web::PORT),
                proxies: proxies.iter().take(count).cloned().collect(),
            });
        }
        Ok(())
    }
}

fn start_mesh() -> Result<Mesh> {
    let lab = Lab::new(4)?;
    let config = Config::new(lab.dir())?;
    config.namespace("weft-system", false)?;
    config.service_account("weft-system", "weft-node")?;
    for node in lab.nodes() {
        config.node(node)?;
    }
    config.namespace("bench", true)?;
    config.namespace("plain", false)?;
    config.namespace("peer", false)?;
    let issuer = Issuer::new("https://lab.weft.example")?;
    let controller = Controller::start(&lab, &config, &issuer)?;
    let agents = lab.nodes().iter().take(2);
    let agents = agents
        .map(|node| Agent::start(&lab, node, &controller, &issuer, None))
        .collect::<Result<_>>()?;
    Ok(Mesh {
        agents,
        controller,
        config,
        issuer,
        lab,
    })
}

/// A client and a server on the first node, a server on the second.
fn trio(
    mesh: &mut Mesh,
    namespace: &str,
    [here, there]: [u8; 2],
    mut add: impl FnMut(&mut Mesh, &PodSpec<'_>) -> Result<Pod>,
) -> Result<Trio> {
    let mut pod = |node, name| -> Result<Pod> {
        let pod = add(mesh, &PodSpec::named(node, namespace, name))?;
        netns::within(pod.place.netns(), || -> Result<()> {
            for (key, value) in SETTINGS {
                fs::write(format!("/proc/sys/net/{key}"), value)
                    .with_context(|| format!("cannot set {key}"))?;
            }
            Ok(())
        })??;
        Ok(pod)
    };
    Ok(Trio {
        client: pod(here, "client")?,
        far: pod(there, "far")?,
        near: pod(here, "near")?,
    })
}

/// Starts the load generator's server in the pod.
fn serve(pod: &Pod) -> Result<Process> {
    let program = programs::binary("lab-load")?;
    let listen = format!("0.0.0.0:{LOAD_PORT}");
    let argv = [&*program.to_string_lossy(), "serve", "--listen", &listen];
    let mut process = pod.place.start(&argv, &pod.dir.join("lab-load.log"))?;
    let netns = pod.place.netns().to_owned();
    process.ready("lab-load to listen", wait::DEADLINE, |_| {
        Ok(netns::listening(&netns)?.contains(&LOAD_PORT))
    })?;
    Ok(process)
}
