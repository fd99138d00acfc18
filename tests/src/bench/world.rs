//! The benchmark's world: Weft on nodes 1 and 2; nodes 3 and 4, on which no eBPF program is attached,
//! for the pods that no proxy touches and for the peer; Weft with its same-node fast path on node 5.
//!
//! Every contender has a client on one node, a server on that node and a server on the next; where only
//! one of the two is measured, the other is there all the same.

use super::arm::{self, Arm, Proxy};
use super::contender::{Contender, Via};
use super::peer::{Member, Peer, PeerPath, Pods};
use super::{crowd, server};
use crate::agent::Agent;
use crate::config::Config;
use crate::controller::Controller;
use crate::mesh::{Mesh, PodSpec};
use crate::process::Process;
use crate::tokens::Issuer;
use crate::topology::{Lab, Node, Pod};
use crate::wait;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::time::Duration;

/// The controller's gauge of the workloads and services that it serves.
const SERVED: &str = "weft_controller_resources{type=\"address\"}";
/// How long the controller may take to read a large configuration.
const CROWD_WITHIN: Duration = Duration::from_secs(120);

/// What is in the world besides the contenders' clients and servers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Furnishing {
    /// Workloads that run elsewhere, in the proxies' configuration.
    pub(super) crowd: usize,
    /// Pods on the client's node, known to its proxy and not yet handed to it.
    pub(super) waiting: usize,
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
    /// Pods that wait to be handed to their proxy.
    pub(super) waiting: Vec<Member>,
    /// The peer's processes.
    pub(super) peers: Vec<Peer>,
    mesh: Mesh,
    _servers: Vec<Process>,
}

impl World {
    /// Starts what these contenders need.
    pub(super) fn build(
        contenders: &[Contender],
        peer: Option<&PeerPath>,
        furnishing: Furnishing,
    ) -> Result<Self> {
        let uses = |via: &Via| contenders.iter().any(|contender| contender.via == *via);
        let mut mesh = start_mesh(uses(&Via::WeftDirect))?;
        let mut parts = Parts::default();
        if uses(&Via::Direct) {
            let trio = trio(&mut mesh, "plain", [3, 4], Mesh::add_pod)?;
            parts.add(&Via::Direct, &trio, &[])?;
        }
        if uses(&Via::Weft) {
            let trio = trio(&mut mesh, "bench", [1, 2], Mesh::add_enrolled)?;
            parts.waiting = waiting(&mut mesh, "bench", 1, furnishing)?;
            if furnishing.crowd > 0 {
                describe_crowd(&mut mesh, furnishing.crowd)?;
            }
            parts.add(&Via::Weft, &trio, &arm::agents(&mesh, &[1, 2])?)?;
        }
        if uses(&Via::WeftDirect) {
            let trio = trio(&mut mesh, "fast", [5, 5], Mesh::add_enrolled)?;
            parts.add(&Via::WeftDirect, &trio, &arm::agents(&mesh, &[5])?)?;
        }
        let mut peers = Vec::new();
        if let Some(path) = peer.filter(|peer| uses(&Via::Peer(peer.name.clone()))) {
            let mut members = Vec::new();
            let trio = trio(&mut mesh, "peer", [3, 4], |mesh, spec| {
                let pod = mesh.add_pod(spec)?;
                members.push(Member::new(pod.clone(), spec));
                Ok(pod)
            })?;
            let waiting = waiting(&mut mesh, "peer", 3, furnishing)?;
            let pods = Pods {
                members: &members,
                waiting: &waiting,
                crowd: furnishing.crowd,
            };
            for number in [3, 4] {
                let node = mesh.lab.node(number)?;
                let started = Peer::start(&path.path, &mesh, node, &pods);
                peers.push(started.with_context(|| format!("{} on node {number}", path.name))?);
            }
            let proxies: Vec<Proxy> = peers.iter().map(Proxy::of_peer).collect();
            parts.add(&Via::Peer(path.name.clone()), &trio, &proxies)?;
            parts.waiting.extend(waiting);
        }
        parts.arms.retain(|arm| contenders.contains(&arm.contender));
        Ok(Self {
            arms: parts.arms,
            cgroup: mesh.lab.cgroup().to_owned(),
            waiting: parts.waiting,
            peers,
            mesh,
            _servers: parts.servers,
        })
    }

    /// Weft's agent on this node.
    pub(super) fn agent(&self, node: u8) -> Result<&Agent> {
        self.mesh.agent(node)
    }

    /// Where the agents write a line for each connection.
    pub(super) fn access_logs(&self) -> impl Iterator<Item = PathBuf> {
        let agents = self.mesh.agents.iter();
        agents.map(|agent| agent.access_log().path().to_owned())
    }

    /// The node of this number.
    pub(super) fn node(&self, number: u8) -> Result<&Node> {
        self.mesh.lab.node(number)
    }
}

#[derive(Default)]
struct Parts {
    arms: Vec<Arm>,
    servers: Vec<Process>,
    waiting: Vec<Member>,
}

impl Parts {
    /// Starts the servers of a trio and adds its two arms.
    fn add(&mut self, via: &Via, trio: &Trio, proxies: &[Proxy]) -> Result<()> {
        for (same_node, server) in [(false, &trio.far), (true, &trio.near)] {
            self.servers.extend(server::start(server)?);
            let contender = Contender {
                via: via.clone(),
                same_node,
            };
            let arm = Arm::new(contender, &trio.client, server, proxies);
            self.arms.push(arm);
        }
        Ok(())
    }
}

fn start_mesh(fast_path: bool) -> Result<Mesh> {
    let lab = Lab::new(if fast_path { 5 } else { 4 })?;
    let config = Config::new(lab.dir())?;
    config.namespace("weft-system", false)?;
    config.service_account("weft-system", "weft-node")?;
    for node in lab.nodes() {
        config.node(node)?;
    }
    for (namespace, meshed) in [
        ("bench", true),
        ("fast", true),
        ("plain", false),
        ("peer", false),
    ] {
        config.namespace(namespace, meshed)?;
    }
    let issuer = Issuer::new("https://lab.weft.example")?;
    let controller = Controller::start(&lab, &config, &issuer)?;
    let mut agents = Vec::new();
    for node in lab.nodes() {
        let options: &[_] = match node.number {
            1 | 2 => &[],
            5 => &[("same-node", "direct")],
            _ => continue,
        };
        let agent = Agent::start(&lab, node, &controller, &issuer, None, options)?;
        agents.push(agent);
    }
    Ok(Mesh {
        agents,
        controller,
        config,
        issuer,
        lab,
    })
}

/// Tells the controller of the crowd, then starts the agents anew: they have had it from the start and
/// were asked for nothing.
fn describe_crowd(mesh: &mut Mesh, count: usize) -> Result<()> {
    mesh.config.write("crowd", &crowd::kubernetes(count)?)?;
    let what = format!("the controller to serve {count} workloads");
    wait::until_true(&what, CROWD_WITHIN, || {
        let metrics = mesh.controller.admin("/metrics")?;
        Ok(served(&metrics).context("the controller does not tell what it serves")? >= count)
    })?;
    for agent in &mut mesh.agents {
        agent.stop(wait::DEADLINE)?;
        agent.restart()?;
    }
    Ok(())
}

/// How many addresses the controller serves, by its metrics.
fn served(metrics: &str) -> Option<usize> {
    let line = metrics.lines().find(|line| line.starts_with(SERVED))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Pods that every agent knows and that nobody has enrolled.
fn waiting(
    mesh: &mut Mesh,
    namespace: &str,
    node: u8,
    furnishing: Furnishing,
) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for number in 0..furnishing.waiting {
        let name = format!("waiting-{number:03}");
        let spec = PodSpec::named(node, namespace, &name);
        let pod = mesh.lab.add_pod(node, namespace, &name)?;
        mesh.config.service_account(namespace, &name)?;
        mesh.describe(&pod, &spec)?;
        members.push(Member::new(pod, &spec));
    }
    for agent in &mesh.agents {
        for member in &members {
            agent.wait_for(&member.pod.v4.to_string(), true)?;
        }
    }
    Ok(members)
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
        server::allow_many_connections(&pod)?;
        Ok(pod)
    };
    Ok(Trio {
        client: pod(here, "client")?,
        far: pod(there, "far")?,
        near: pod(here, "near")?,
    })
}
