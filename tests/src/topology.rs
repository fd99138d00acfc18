//! The lab's network: nodes joined by a wire, pods behind their node, all of it routed, IPv4 and IPv6.
//!
//! Node N has 10.88.0.N and fd88::N on `wire0`; its pod I has 10.88.N.(10+I) and fd88:N::(10+I). A
//! pod's only route is the default one through its node.

use crate::id::LabId;
use crate::owner::Owner;
use crate::place::Place;
use crate::{bpffs, cgroup, ip, janitor, netns, shell, signals};
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The link between the nodes, as each node names it.
pub const WIRE: &str = "wire0";

const SETTINGS: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];
const FORWARDING: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// A machine of the lab: a network namespace that routes for its pods.
#[derive(Clone, Debug)]
pub struct Node {
    /// `node1`, `node2`, and so on.
    pub name: String,
    /// Its number, from 1.
    pub number: u8,
    /// Its address on the wire.
    pub v4: Ipv4Addr,
    /// Its IPv6 address on the wire.
    pub v6: Ipv6Addr,
    /// Where programs of the node run that are neither the agent nor in a pod.
    pub host: Place,
    /// Where the node's agent runs.
    pub agent: Place,
    /// The cgroup above the node's pods and its agent.
    pub cgroup: PathBuf,
    /// A directory for the node's files.
    pub dir: PathBuf,
    netns: String,
    pods: u8,
}

/// A pod: a network namespace and a cgroup.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The number of its node, from 1.
    pub node: u8,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Where its processes run.
    pub place: Place,
    /// The name of its link as the node sees it.
    pub link: String,
    /// A directory for its files.
    pub dir: PathBuf,
}

impl Pod {
    /// Both addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// Its `metadata.uid`.
    pub fn uid(&self) -> String {
        uid(self.node, self.v4.octets()[3])
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A lab and everything in it, removed when it is dropped.
#[derive(Debug)]
pub struct Lab {
    id: LabId,
    dir: PathBuf,
    cgroup: PathBuf,
    nodes: Vec<Node>,
    keep: bool,
}

impl Lab {
    /// Removes what dead labs left, then makes a lab of this many nodes.
    pub fn new(nodes: u8) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab needs root (network namespaces, cgroups, eBPF): run it with sudo"
        );
        ensure!(
            (1..=9).contains(&nodes),
            "a lab has 1 to 9 nodes, not {nodes}"
        );
        for (id, removed) in janitor::sweep()? {
            match removed {
                Ok(()) => eprintln!("lab: removed {id}, whose owner is gone"),
                Err(error) => eprintln!("lab: warning: {error:#}"),
            }
        }
        let id = LabId::random();
        let cgroup = cgroup::mount_point()?.join(id.to_string());
        let mut lab = Self {
            dir: id.dir(),
            cgroup,
            id,
            nodes: Vec::new(),
            keep: false,
        };
        signals::register(&lab.id)?;
        lab.build(nodes)
            .with_context(|| format!("cannot make {}", lab.id))?;
        Ok(lab)
    }

    /// Its name.
    pub fn id(&self) -> &LabId {
        &self.id
    }

    /// The directory for its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cgroup above all others of the lab.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The bpffs in which the lab's programs are pinned.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// Its nodes; node number N is at N - 1.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this number, from 1.
    pub fn node(&self, number: u8) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.number == number);
        found.with_context(|| format!("{} has no node {number}", self.id))
    }

    /// A place in a node's network namespace, in a cgroup of the lab that is outside every node's.
    pub fn outside(&self, number: u8, name: &str) -> Result<Place> {
        let cgroup = self.cgroup.join(name);
        cgroup::create(&cgroup)?;
        Ok(Place::new(
            self.node(number)?.host.netns().to_owned(),
            cgroup,
        ))
    }

    /// Leaves everything up: the next lab on this machine removes it.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// Adds a pod to a node.
    pub fn add_pod(&mut self, node: u8, namespace: &str, name: &str) -> Result<Pod> {
        let id = self.id.clone();
        let found = self.nodes.iter_mut().find(|n| n.number == node);
        let node = found.with_context(|| format!("{id} has no node {node}"))?;
        let host = 10 + node.pods;
        node.pods += 1;
        let netns_name = format!("{id}-{namespace}-{name}");
        let pod = Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.number,
            v4: Ipv4Addr::new(10, 88, node.number, host),
            v6: pod_v6(node.number, host),
            place: Place::new(
                netns::create(&netns_name, SETTINGS)?,
                // As kubelet names it.
                node.cgroup
                    .join("pods")
                    .join(format!("pod{}", uid(node.number, host)))
                    .join("app"),
            ),
            link: format!("pod{host}"),
            dir: node.dir.join(format!("{namespace}-{name}")),
        };
        cgroup::create(pod.place.cgroup())?;
        fs::create_dir_all(&pod.dir)?;
        let Pod { v4, v6, link, .. } = &pod;
        ip::batch(
            &node.netns,
            &format!(
                "link add {link} type veth peer name eth0 netns {netns_name}\n\
                 link set {link} up\n\
                 address add fe80::1/64 dev {link} nodad\n\
                 route add {v4}/32 dev {link} src {}\n\
                 route add {v6}/128 dev {link} src {}\n",
                node.v4, node.v6
            ),
        )?;
        ip::batch(
            &netns_name,
            &format!(
                "link set eth0 up\n\
                 address add {v4}/32 dev eth0\n\
                 address add {v6}/128 dev eth0 nodad\n\
                 route add 169.254.1.1/32 dev eth0 scope link\n\
                 route add default via 169.254.1.1 dev eth0\n\
                 route add ::/0 via fe80::1 dev eth0\n"
            ),
        )?;
        Ok(pod)
    }

    fn build(&mut self, count: u8) -> Result<()> {
        // The owner's name is there before anything else is, and in one step.
        let draft = self.dir.with_extension("draft");
        fs::create_dir(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
        Owner::current()?.write(&draft)?;
        fs::rename(&draft, &self.dir)?;
        bpffs::mount(&self.bpffs())?;
        for number in 1..=count {
            let node = self.make_node(number)?;
            self.nodes.push(node);
        }
        self.wire()
    }

    fn make_node(&self, number: u8) -> Result<Node> {
        let name = format!("node{number}");
        let netns_name = format!("{}-{name}", self.id);
        let netns = netns::create(&netns_name, &[SETTINGS, FORWARDING].concat())?;
        let cgroup = self.cgroup.join(&name);
        let node = Node {
            number,
            v4: Ipv4Addr::new(10, 88, 0, number),
            v6: Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, number.into()),
            host: Place::new(netns.clone(), cgroup.join("host")),
            agent: Place::new(netns, cgroup.join("agent")),
            dir: self.dir.join(&name),
            netns: netns_name,
            pods: 0,
            cgroup,
            name,
        };
        for group in [
            node.host.cgroup(),
            node.agent.cgroup(),
            &node.cgroup.join("pods"),
        ] {
            cgroup::create(group)?;
        }
        fs::create_dir_all(&node.dir)?;
        // The pods' gateway: answered on every link of the node, routed nowhere.
        shell::run(&[
            "ip",
            "-n",
            &node.netns,
            "address",
            "add",
            "169.254.1.1/32",
            "dev",
            "lo",
        ])?;
        Ok(node)
    }

    /// Joins the nodes: two by one veth pair, any other number by a bridge in a namespace of its own.
    fn wire(&self) -> Result<()> {
        match self.nodes.as_slice() {
            [] => bail!("a lab without nodes"),
            [first, second] => ip::batch(
                &first.netns,
                &format!(
                    "link add {WIRE} type veth peer name {WIRE} netns {}\n",
                    second.netns
                ),
            )?,
            many => {
                let switch = format!("{}-switch", self.id);
                netns::create(&switch, SETTINGS)?;
                let mut lines = "link add bridge0 type bridge\nlink set bridge0 up\n".to_owned();
                for node in many {
                    let port = format!("port{}", node.number);
                    write!(
                        lines,
                        "link add {port} type veth peer name {WIRE} netns {}\n\
                         link set {port} master bridge0 up\n",
                        node.netns
                    )?;
                }
                ip::batch(&switch, &lines)?;
            }
        }
        for node in &self.nodes {
            let mut lines = format!(
                "link set {WIRE} mtu 1500 up\n\
                 address add {}/24 dev {WIRE}\n\
                 address add {}/64 dev {WIRE} nodad\n",
                node.v4, node.v6
            );
            for other in self
                .nodes
                .iter()
                .filter(|other| other.number != node.number)
            {
                write!(
                    lines,
                    "route add 10.88.{n}.0/24 via {}\nroute add {}/64 via {}\n",
                    other.v4,
                    pod_v6(other.number, 0),
                    other.v6,
                    n = other.number,
                )?;
            }
            ip::batch(&node.netns, &lines)?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        signals::forget(&self.id);
        if self.keep {
            return;
        }
        if let Err(error) = janitor::remove(&self.id) {
            eprintln!("lab: {error:#}");
        }
    }
}

fn uid(node: u8, host: u8) -> String {
    format!("00000000-0000-4000-8000-{node:06}{host:06}")
}

fn pod_v6(node: u8, host: u8) -> Ipv6Addr {
    // fd88:N::(10+I), the host's number written in decimal digits as in the IPv4 address.
    let digits =
        u16::from(host / 100) * 0x100 + u16::from(host / 10 % 10) * 0x10 + u16::from(host % 10);
    Ipv6Addr::new(0xfd88, node.into(), 0, 0, 0, 0, 0, digits)
}
