//! What the fast path decides and does, one step after the other: grants and events here, changes of the
//! state and upkeep below.
//!
//! A step that the kernel refuses is logged and leaves things closed: no exemption, or one that ends with
//! its lease.

mod change;
mod ends;
mod upkeep;

use mesh_common::abi::{DirectEnd, DirectEvent, DirectEventKind};
use mesh_common::snapshot::Snapshot;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::Figures;
use super::closing::Closing;
use super::connections::{Connections, Cut, Ends};
use super::decide;
use super::grants::{self, Granted, Grants};
use super::reaper::{Flow, Reaper};
use super::worker::Candidate;
use crate::bpf::{Datapath, DatapathError, DirectRoute, since_boot};
use crate::observe::Observer;
use crate::pod::Pod;
use change::said;
use ends::describe;
use upkeep::still_leads_there;

/// How long exemptions hold when the agent is gone.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// A pod of this node.
struct Member {
    pod: Arc<Pod>,
    /// False once it is un-enrolled; it stays for as long as connections of it are open.
    enrolled: bool,
}

/// The fast path.
pub(super) struct FastPath {
    datapath: Arc<Datapath>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    reaper: Reaper,
    members: HashMap<u64, Member>,
    grants: Grants,
    connections: Connections,
    /// Routes that were cut, to be looked at again.
    again: VecDeque<(Instant, DirectRoute)>,
    lost_events: u64,
    figures: Arc<Figures>,
}

impl FastPath {
    pub(super) fn new(
        datapath: Arc<Datapath>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        observer: Observer,
        figures: Arc<Figures>,
    ) -> Result<Self, DatapathError> {
        let reaper = Reaper::new(datapath.direct_marks()?, datapath.agent_cgroup());
        Ok(Self {
            lost_events: datapath.lost_events()?,
            datapath,
            snapshot,
            reaper,
            members: HashMap::new(),
            grants: Grants::default(),
            connections: Connections::new(observer),
            again: VecDeque::new(),
            figures,
        })
    }

    pub(super) fn joined(&mut self, pod: Arc<Pod>) {
        let enrolled = true;
        self.members
            .insert(pod.netns.cookie(), Member { pod, enrolled });
    }

    /// The kernel has forgotten the pod's exemptions by now.
    pub(super) fn left(&mut self, cookie: u64) {
        if let Some(member) = self.members.get_mut(&cookie) {
            member.enrolled = false;
        }
        let of_it = |route: &DirectRoute| route.client == cookie || route.server == cookie;
        let gone: Vec<_> = self.grants.iter().map(|granted| granted.route).collect();
        for route in gone.iter().filter(|route| of_it(route)) {
            self.grants.remove(&grants::key(route));
        }
        self.count();
    }

    /// Exempts a destination, if the newest state allows that. The exemption is listed before that state can
    /// change unseen: changes are handled by the same task.
    pub(super) fn consider(&mut self, candidate: Candidate) {
        let key = (candidate.client, candidate.destination);
        if self.grants.is_settled(&key, Instant::now()) {
            return;
        }
        let [client, server] = [candidate.client, candidate.server].map(|c| self.enrolled(c));
        let (Some(client), Some(server)) = (client, server) else {
            return;
        };
        if candidate.client == candidate.server {
            return;
        }
        let state = self.snapshot.borrow().clone();
        let to = candidate.destination;
        let grant = match decide::grant(&state, &client, &server, to) {
            Ok(grant) => grant,
            Err(why) => {
                tracing::debug!(%client, %server, %to, "not exempted from the tunnel: {why}");
                return;
            }
        };
        let route = DirectRoute {
            client: candidate.client,
            source: grant.source,
            server: candidate.server,
            destination: to,
        };
        if let Err(why) = still_leads_there(&server, to) {
            tracing::debug!(%client, %server, %to, "not exempted from the tunnel: {why}");
            return;
        }
        if let Some(oldest) = self.grants.oldest_if_full() {
            self.withdraw(&oldest);
        }
        match self.datapath.exempt(&route) {
            Ok(true) => {
                tracing::debug!(%client, %server, %to, "exempted from the tunnel");
                let identity = grant.identity;
                self.grants.insert(Granted { route, identity });
            }
            Ok(false) => {}
            Err(e) => tracing::error!("same-node: cannot exempt {client} to {to}: {e}"),
        }
        self.count();
    }

    /// Something happened to a connection.
    pub(super) fn event(&mut self, event: &DirectEvent) {
        let address = |ip: mesh_common::abi::Address, port| SocketAddr::new(ip.into(), port);
        let flow = Flow {
            client: event.source,
            server: event.flow.netns,
            source: address(event.flow.remote, event.flow.remote_port),
            destination: address(event.flow.local, event.flow.local_port),
        };
        let at = Duration::from_nanos(event.time);
        match event.kind {
            kind if kind == DirectEventKind::Opened as u32 => self.opened(flow, at),
            kind if kind == DirectEventKind::Closed as u32 => self.closed(flow, at, event),
            kind if kind == DirectEventKind::Stray as u32 => self.stray(&flow),
            unknown => tracing::error!("same-node: the kernel tells of an event {unknown}"),
        }
        self.count();
    }

    /// The kernel knows the connection already, so it is judged last: what changes now finds it there.
    fn opened(&mut self, flow: Flow, at: Duration) {
        let ends = self.ends(&flow);
        self.connections.open(flow, &ends, at);
        if let Err(denied) = ends.verdict {
            self.cut(&flow.route(), denied);
        }
    }

    fn closed(&mut self, flow: Flow, at: Duration, event: &DirectEvent) {
        let end = if event.end == DirectEnd::Client as u32 {
            DirectEnd::Client
        } else {
            DirectEnd::Server
        };
        let closing = Closing::new(end, event);
        let (state, members) = (self.snapshot.borrow().clone(), &self.members);
        self.connections
            .close(flow, closing, (at, Instant::now()), || {
                describe(&state, members, &flow, None)
            });
        if closing.is_unanswered() {
            // Whatever it was, the tunnel can say it better, or does not suffer from it.
            self.withdraw(&flow.route());
            self.grants
                .shun((flow.client, flow.destination), Instant::now());
        }
    }

    fn stray(&mut self, flow: &Flow) {
        tracing::warn!(
            "same-node: {} answered from elsewhere than its pod on this node; its connections go through \
             tunnels for now",
            flow.destination
        );
        self.withdraw(&flow.route());
        self.grants
            .shun((flow.client, flow.destination), Instant::now());
        let ends = self.ends(flow);
        self.connections.open(*flow, &ends, since_boot());
        self.connections.cut(|live| live.flow == *flow, &Cut::Stray);
        self.connections.lose(flow, DirectEnd::Server, since_boot());
        if let Some(client) = self.pod(flow.client) {
            said(&client, self.reaper.cut_clients(&client, |of| of == flow));
        }
    }

    /// Whether no direct connection is open, as far as is known.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.len() == 0
    }

    pub(super) fn describe(&self) -> Value {
        let pod = |cookie| self.pod(cookie).map(|pod| pod.to_string());
        let exemptions = self.grants.iter().map(|granted| {
            json!({
                "client": pod(granted.route.client),
                "identity": granted.identity,
                "server": pod(granted.route.server),
                "destination": granted.route.destination,
            })
        });
        let now = since_boot();
        let connections = self.connections.iter().map(|live| {
            json!({
                "client": pod(live.flow.client),
                "source": live.flow.source,
                "server": pod(live.flow.server),
                "destination": live.flow.destination,
                "identity": live.identity,
                "ageSeconds": now.saturating_sub(live.opened).as_secs(),
            })
        });
        json!({
            "exemptions": exemptions.collect::<Vec<_>>(),
            "connections": connections.collect::<Vec<_>>(),
        })
    }

    fn pod(&self, cookie: u64) -> Option<Arc<Pod>> {
        self.members.get(&cookie).map(|member| member.pod.clone())
    }

    fn enrolled(&self, cookie: u64) -> Option<Arc<Pod>> {
        let member = self.members.get(&cookie).filter(|member| member.enrolled);
        member.map(|member| member.pod.clone())
    }

    fn ends(&self, flow: &Flow) -> Ends {
        describe(&self.snapshot.borrow().clone(), &self.members, flow, None)
    }

    fn count(&self) {
        let Figures {
            exemptions,
            connections,
        } = &*self.figures;
        exemptions.store(self.grants.len(), Ordering::Relaxed);
        connections.store(self.connections.len(), Ordering::Relaxed);
    }
}
