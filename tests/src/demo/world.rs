//! The demo's world: two nodes, three namespaces, and real applications in their pods.
//!
//! `shop` is in the mesh and STRICT, `open` is in the mesh and PERMISSIVE, `legacy` is not in the mesh.

use super::report::Row;
use crate::access_log::{AccessLog, Entry, Mark};
use crate::agent::Sabotage;
use crate::apps::{Nginx, Postgres, Redis};
use crate::capture::Capture;
use crate::mesh::{Mesh, PodSpec};
use crate::topology::Pod;
use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of HBONE.
pub(super) const HBONE: u16 = 15008;

/// A pod with nginx in it.
pub(super) struct Web {
    pub(super) pod: Pod,
    pub(super) nginx: Nginx,
}

/// A link on which packets are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Between the nodes.
    Wire,
    /// Between node 1 and its pod `shop/web-1`.
    Web1,
}

/// The world and what watches it.
pub struct World {
    /// The mesh.
    pub mesh: Mesh,
    pub(super) frontend: Pod,
    pub(super) intruder: Pod,
    pub(super) outsider: Pod,
    pub(super) web1: Web,
    pub(super) web2: Web,
    pub(super) open: Web,
    pub(super) plain: Web,
    pub(super) redis: Pod,
    pub(super) db: Pod,
    _apps: (Redis, Postgres),
    wire: Capture,
    near: Capture,
    sealed: [usize; 2],
    pods: Vec<Pod>,
}

/// The virtual address of the service of this number.
pub(super) fn vip(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 96, 0, number).into(),
        Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, number.into()).into(),
    ]
}

/// The service in front of both web servers.
pub(super) const WEB_VIP: u8 = 10;
/// The service in front of Redis.
pub(super) const REDIS_VIP: u8 = 11;
/// The service in front of PostgreSQL.
pub(super) const DB_VIP: u8 = 12;

const FRONTEND: &str = "cluster.local/ns/shop/sa/frontend";
const INTRUDER: &str = "cluster.local/ns/shop/sa/intruder";

impl World {
    /// Starts everything; what is not as it should be before the first row is an error.
    pub(super) fn build(sabotage: Option<Sabotage>) -> Result<Self> {
        eprintln!("demo: starting two nodes, a controller and an agent on each node");
        let mut mesh = Mesh::start(2, sabotage)?;
        for (name, meshed) in [("shop", true), ("open", true), ("legacy", false)] {
            mesh.config.namespace(name, meshed)?;
        }
        mesh.config.peer_authentication("shop", "STRICT")?;
        mesh.config.peer_authentication("open", "PERMISSIVE")?;
        mesh.add_policy("shop", "web-callers", &rule("web", "ALLOW", FRONTEND))?;
        mesh.add_policy("shop", "redis-callers", &rule("redis", "ALLOW", FRONTEND))?;
        mesh.add_policy("shop", "no-intruder", &rule("redis", "DENY", INTRUDER))?;

        eprintln!("demo: adding pods");
        let mut pods = Vec::new();
        let mut add = |node: u8, namespace: &str, name: &str, app: &str| -> Result<Pod> {
            let spec = PodSpec {
                node,
                namespace,
                name,
                account: app,
                app,
                labels: &[],
            };
            let pod = if namespace == "legacy" {
                mesh.add_pod(&spec)?
            } else {
                mesh.add_enrolled(&spec)?
            };
            pods.push(pod.clone());
            Ok(pod)
        };
        let frontend = add(1, "shop", "frontend", "frontend")?;
        let intruder = add(1, "shop", "intruder", "intruder")?;
        let outsider = add(1, "legacy", "outsider", "outsider")?;
        let web1 = add(1, "shop", "web-1", "web")?;
        let web2 = add(2, "shop", "web-2", "web")?;
        let redis = add(2, "shop", "redis", "redis")?;
        let db = add(2, "shop", "db", "db")?;
        let open = add(2, "open", "site", "site")?;
        let plain = add(2, "legacy", "plain", "plain")?;

        eprintln!("demo: starting nginx, Redis and PostgreSQL in them");
        let web = |pod: Pod| Nginx::start(&pod).map(|nginx| Web { pod, nginx });
        let (web1, web2, open, plain) = (web(web1)?, web(web2)?, web(open)?, web(plain)?);
        let apps = (Redis::start(&redis)?, Postgres::start(&db)?);
        mesh.add_service("shop", "web", "web", &vip(WEB_VIP), 80)?;
        mesh.add_service("shop", "redis", "redis", &vip(REDIS_VIP), 6379)?;
        mesh.add_service("shop", "db", "db", &vip(DB_VIP), 5432)?;

        eprintln!("demo: capturing packets between the nodes and before shop/web-1");
        let wire = Capture::wire(&mesh.lab)?;
        let near = Capture::pod(&mesh.lab, &web1.pod)?;
        Ok(Self {
            mesh,
            frontend,
            intruder,
            outsider,
            web1,
            web2,
            open,
            plain,
            redis,
            db,
            _apps: apps,
            wire,
            near,
            sealed: [0; 2],
            pods,
        })
    }

    /// Every pod, with the words that run a command in it.
    pub fn entrances(&self) -> Vec<(String, String)> {
        let enter = |pod: &Pod| {
            let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
            let words: Vec<String> = pod.place.prefix().iter().map(quoted).collect();
            (pod.key(), format!("{} -- bash", words.join(" ")))
        };
        self.pods.iter().map(enter).collect()
    }

    /// Leaves the lab up.
    pub fn keep(self) {
        self.mesh.lab.keep();
    }

    /// Remembers a pod that was added later.
    pub(super) fn remember(&mut self, pod: &Pod) {
        self.pods.push(pod.clone());
    }

    /// Both agents' logs from here on.
    pub(super) fn watch(&self, from: &Pod, to: &Pod) -> Result<Watch> {
        let log = |pod: &Pod| -> Result<(AccessLog, Mark)> {
            let log = self.mesh.agent(pod.node)?.access_log().clone();
            let mark = log.mark();
            Ok((log, mark))
        };
        Ok(Watch {
            outbound: log(from)?,
            inbound: log(to)?,
            from: from.name.clone(),
            to: to.name.clone(),
        })
    }

    /// The bytes must not have been on the link in clear, while the tunnel must have been used there.
    pub(super) fn must_be_sealed(
        &mut self,
        row: &mut Row,
        link: Link,
        words: &[&str],
    ) -> Result<()> {
        let trace = self.capture(link).trace()?;
        for word in words {
            row.must(
                !trace.contains(word.as_bytes()),
                format!("{word:?} was on {link} in clear"),
            );
        }
        let now = trace.tls_records_to(HBONE).application;
        let slot = &mut self.sealed[usize::from(link == Link::Web1)];
        let fresh = now - std::mem::replace(slot, now);
        row.must(
            fresh > 0,
            format!("no TLS record went to port {HBONE} on {link}"),
        );
        let (bytes, quoted) = (words.len(), words.join(", "));
        row.saw(format!(
            "{link}: none of {bytes} words ({quoted}); {fresh} TLS records to {HBONE}"
        ));
        Ok(())
    }

    /// The bytes must not have been on the wire in clear.
    pub(super) fn must_be_absent(&mut self, row: &mut Row, words: &[&str]) -> Result<()> {
        let trace = self.wire.trace()?;
        for word in words {
            row.must(
                !trace.contains(word.as_bytes()),
                format!("{word:?} was on the wire in clear"),
            );
        }
        row.saw(format!("the wire: nothing of {}", words.join(", ")));
        Ok(())
    }

    /// The bytes must have been on the wire in clear: the captures can see what they look for.
    pub(super) fn must_be_clear(&mut self, row: &mut Row, words: &[&str]) -> Result<()> {
        let trace = self.wire.trace()?;
        for word in words {
            row.must(
                trace.contains(word.as_bytes()),
                format!("{word:?} was not on the wire"),
            );
        }
        row.saw(format!("the wire: {} in clear", words.join(", ")));
        Ok(())
    }

    fn capture(&mut self, link: Link) -> &mut Capture {
        match link {
            Link::Wire => &mut self.wire,
            Link::Web1 => &mut self.near,
        }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wire => "the wire",
            Self::Web1 => "web-1's link",
        })
    }
}

/// The logs of two agents from a point in time on, for connections between two workloads.
pub(super) struct Watch {
    outbound: (AccessLog, Mark),
    inbound: (AccessLog, Mark),
    from: String,
    to: String,
}

impl Watch {
    /// The line of the client's agent.
    pub(super) fn outbound(&self) -> Result<Entry> {
        self.find(&self.outbound, "outbound")
    }

    /// The line of the server's agent.
    pub(super) fn inbound(&self) -> Result<Entry> {
        self.find(&self.inbound, "inbound")
    }

    /// Every line of either agent about the two workloads, as far as there are any by now.
    pub(super) fn all(&self) -> Result<Vec<Entry>> {
        let mut lines = self.outbound.0.since(self.outbound.1)?;
        lines.extend(self.inbound.0.since(self.inbound.1)?);
        lines.retain(|entry| entry.is_between(&self.from, &self.to));
        Ok(lines)
    }

    fn find(&self, (log, mark): &(AccessLog, Mark), direction: &str) -> Result<Entry> {
        let what = format!("an {direction} line from {} to {}", self.from, self.to);
        log.wait(*mark, &what, |entry| {
            entry.direction == direction && entry.is_between(&self.from, &self.to)
        })
    }
}

/// A word that occurs nowhere else.
pub(super) fn needle() -> String {
    format!("needle-{:016x}", rand::random::<u64>())
}

/// Port 80 of the pod, IPv4.
pub(super) fn http(pod: &Pod) -> SocketAddr {
    SocketAddr::new(pod.v4.into(), 80)
}

/// A policy for the pods with the label `app`, about one principal.
pub(super) fn rule(app: &str, action: &str, principal: &str) -> String {
    format!(
        "selector:\n  matchLabels:\n    app: {app}\naction: {action}\nrules:\n- from:\n  - source:\n      \
         principals: [\"{principal}\"]\n"
    )
}

/// As `rule`, to keep the frontend out.
pub(super) fn deny_frontend(app: &str) -> String {
    rule(app, "DENY", FRONTEND)
}
