//! What the fast path decides and does, one step after the other: grants, events, changes of state.
//!
//! A step that the kernel refuses is logged and leaves things closed: no exemption, or one that ends with
//! its lease.

use mesh_common::abi::{DirectEnd, DirectEvent, DirectEventKind};
use mesh_common::policy::Verdict;
use mesh_common::snapshot::Snapshot;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::Figures;
use super::closing::Closing;
use super::connections::{Connections, Cut, Ends, Live};
use super::decide::{self, Denied};
use super::grants::{self, Granted, Grants};
use super::reaper::{Flow, Reaper};
use super::worker::Candidate;
use crate::bpf::{Datapath, DatapathError, DirectRoute, since_boot};
use crate::observe::{Observer, Party};
use crate::pod::Pod;
use crate::sys::interface_addresses;

/// How long exemptions hold when the agent is gone.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// A handshake that was under way when its exemption ended is over by then.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// With this bit of tcp_fastopen, data in a SYN is taken before anything proves where it came from.
const FAST_OPEN_SERVER: u32 = 2;

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
        let ends = self.ends(&flow, None);
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
        let ends = self.ends(flow, None);
        self.connections.open(*flow, &ends, since_boot());
        self.connections.cut(|live| live.flow == *flow, &Cut::Stray);
        self.connections.lose(flow, DirectEnd::Server, since_boot());
        if let Some(client) = self.pod(flow.client) {
            said(&client, self.reaper.cut_clients(&client, |of| of == flow));
        }
    }

    /// Holds everything against the newest state.
    pub(super) fn recheck(&mut self) {
        let state = self.snapshot.borrow_and_update().clone();
        let mut denied: HashMap<grants::Key, (DirectRoute, Denied)> = HashMap::new();
        let granted: Vec<Granted> = self.grants.iter().cloned().collect();
        for Granted { route, identity } in granted {
            let pods = (self.enrolled(route.client), self.enrolled(route.server));
            let (Some(client), Some(server)) = pods else {
                self.withdraw(&route);
                continue;
            };
            let grant = decide::grant(&state, &client, &server, route.destination);
            if grant.is_ok_and(|now| now.identity == identity && now.source == route.source) {
                continue;
            }
            self.withdraw(&route);
            let ends = (SocketAddr::new(route.source, 0), route.destination);
            let verdict = decide::judge(&state, &client, &server, Some(&identity), ends);
            if let Err(why) = verdict {
                denied.insert(grants::key(&route), (route, why));
            }
        }
        for live in self.connections.iter() {
            let ends = describe(&state, &self.members, &live.flow, Some(live));
            if let Err(why) = ends.verdict {
                let route = live.flow.route();
                denied.insert(grants::key(&route), (route, why));
            }
        }
        for (route, why) in denied.into_values() {
            self.cut(&route, why);
        }
        if self.connections.is_full() {
            self.reconcile();
        }
        self.count();
    }

    /// What is due from time to time: the lease, and what tells itself by no event.
    pub(super) fn tick(&mut self, leased: bool) {
        if leased && let Err(e) = self.datapath.lease_exemptions(LEASE) {
            tracing::error!("same-node: cannot renew the lease: {e}");
        }
        self.check_destinations();
        match self.datapath.lost_events() {
            Ok(lost) if lost != self.lost_events => {
                let more = lost.saturating_sub(self.lost_events);
                tracing::warn!("same-node: {more} events of direct connections were lost");
                self.lost_events = lost;
                self.reconcile();
            }
            Ok(_) => {}
            Err(e) => tracing::error!("same-node: cannot tell whether events were lost: {e}"),
        }
        self.connections.settle(Instant::now());
        self.forget_strangers();
        self.count();
    }

    /// Withdraws what leads no longer to its pod.
    fn check_destinations(&mut self) {
        let routes: Vec<DirectRoute> = self.grants.iter().map(|granted| granted.route).collect();
        let mut checked: HashMap<(u64, SocketAddr), bool> = HashMap::new();
        for route in routes {
            let (server, to) = (route.server, route.destination);
            let fit = match checked.get(&(server, to)) {
                Some(&fit) => fit,
                None => self
                    .pod(server)
                    .is_some_and(|pod| still_leads_there(&pod, to).is_ok()),
            };
            checked.insert((server, to), fit);
            if !fit {
                self.withdraw(&route);
            }
        }
    }

    /// Brings what is known in line with the kernel's own table of sockets.
    pub(super) fn reconcile(&mut self) {
        let mut found: HashSet<(Flow, DirectEnd)> = HashSet::new();
        let began = since_boot();
        for (pod, ends) in self.all_ends() {
            match ends {
                Ok(ends) => found.extend(ends),
                Err(e) => {
                    tracing::error!("same-node: cannot list the connections of {pod}: {e}");
                    return;
                }
            }
        }
        for (flow, _) in &found {
            if !self.connections.knows(flow) {
                self.opened(*flow, began);
            }
        }
        let mut gone = Vec::new();
        for live in self.connections.iter().filter(|live| live.opened < began) {
            for end in [DirectEnd::Client, DirectEnd::Server] {
                if live.is_open(end) && !found.contains(&(live.flow, end)) {
                    gone.push((live.flow, end));
                }
            }
        }
        for (flow, end) in gone {
            self.connections.lose(&flow, end, began);
        }
        self.count();
    }

    /// When the next route is to be looked at again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.again.front().map(|(at, _)| *at)
    }

    /// Cuts what was in the middle of its handshake when its route was cut.
    pub(super) fn look_again(&mut self) {
        let now = Instant::now();
        let state = self.snapshot.borrow().clone();
        while let Some((at, route)) = self.again.front().copied() {
            if at > now {
                return;
            }
            self.again.pop_front();
            let flow = Flow {
                client: route.client,
                server: route.server,
                source: SocketAddr::new(route.source, 0),
                destination: route.destination,
            };
            if describe(&state, &self.members, &flow, None)
                .verdict
                .is_err()
            {
                self.cut_sockets(&route);
            }
        }
    }

    /// Ends every exemption, and the lease.
    pub(super) fn close(&mut self) {
        if let Err(e) = self.datapath.lease_exemptions(Duration::ZERO) {
            tracing::error!("same-node: cannot end the lease; it is over in {LEASE:?}: {e}");
        }
        let routes: Vec<DirectRoute> = self.grants.iter().map(|granted| granted.route).collect();
        for route in routes {
            self.withdraw(&route);
        }
        self.count();
    }

    /// Cuts every direct connection there is.
    pub(super) fn cut_all(&mut self, why: &'static str) {
        self.connections.cut(|_| true, &Cut::Ended(why));
        // The accepting side first: it is the one that is protected.
        for side in [DirectEnd::Server, DirectEnd::Client] {
            for Member { pod, .. } in self.members.values() {
                said(pod, self.reaper.cut_marked(pod, side));
            }
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

    fn withdraw(&mut self, route: &DirectRoute) {
        if let Err(e) = self.datapath.end_exemption(route) {
            // Still listed, so it is tried again; meanwhile the connections that it lets through are cut.
            tracing::error!("same-node: cannot end an exemption: {e}");
            return;
        }
        self.grants.remove(&grants::key(route));
    }

    /// Cuts the connections of a route, because the newest state denies them.
    fn cut(&mut self, route: &DirectRoute, why: Denied) {
        let on_route = |live: &Live| {
            live.flow.client == route.client
                && live.flow.server == route.server
                && live.flow.destination == route.destination
                && live.flow.source.ip() == route.source
        };
        self.connections.cut(on_route, &Cut::Denied(why));
        self.cut_sockets(route);
        self.again
            .push_back((Instant::now() + LOOK_AGAIN_AFTER, *route));
    }

    /// The accepting side first: it is the one that is protected.
    fn cut_sockets(&self, route: &DirectRoute) {
        if let Some(server) = self.pod(route.server) {
            said(&server, self.reaper.cut_servers(&server, route));
        }
        if let Some(client) = self.pod(route.client) {
            let on_route = |flow: &Flow| {
                flow.destination == route.destination && flow.source.ip() == route.source
            };
            said(&client, self.reaper.cut_clients(&client, on_route));
        }
    }

    fn all_ends(&self) -> impl Iterator<Item = (&Arc<Pod>, io::Result<Vec<(Flow, DirectEnd)>>)> {
        let pods = self.members.values().map(|member| &member.pod);
        pods.map(|pod| (pod, self.reaper.ends(pod)))
    }

    /// Un-enrolled pods are forgotten with their last connection. The kernel is asked as well: it may have told
    /// of one that was not heard yet.
    fn forget_strangers(&mut self) {
        let (connections, reaper) = (&self.connections, &self.reaper);
        self.members.retain(|cookie, Member { pod, enrolled }| {
            let of_it = |live: &Live| live.flow.client == *cookie || live.flow.server == *cookie;
            *enrolled
                || connections.iter().any(of_it)
                || reaper.ends(pod).is_ok_and(|ends| !ends.is_empty())
        });
    }

    fn pod(&self, cookie: u64) -> Option<Arc<Pod>> {
        self.members.get(&cookie).map(|member| member.pod.clone())
    }

    fn enrolled(&self, cookie: u64) -> Option<Arc<Pod>> {
        let member = self.members.get(&cookie).filter(|member| member.enrolled);
        member.map(|member| member.pod.clone())
    }

    fn ends(&self, flow: &Flow, live: Option<&Live>) -> Ends {
        describe(&self.snapshot.borrow().clone(), &self.members, flow, live)
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

/// Who the ends are, and what the state says of the connection; pods that are unknown are denied.
fn describe(
    state: &Snapshot,
    members: &HashMap<u64, Member>,
    flow: &Flow,
    live: Option<&Live>,
) -> Ends {
    let [client, server] = [flow.client, flow.server].map(|c| members.get(&c).map(|m| &m.pod));
    let party = |pod: Option<&Arc<Pod>>, address| {
        let workload = pod.and_then(|pod| pod.workload(state));
        Party {
            address,
            identity: workload.as_ref().map(|workload| workload.identity()),
            workload,
        }
    };
    let verdict = match (client, server) {
        (Some(client), Some(server)) => {
            let identity = live.and_then(|live| live.identity.as_ref());
            let addresses = (flow.source, flow.destination);
            decide::judge(state, client, server, identity, addresses)
        }
        (None, _) => Err(Denied::Identity),
        (_, None) => Err(Denied::Policy(Verdict::unknown_destination())),
    };
    Ends {
        client: party(client, flow.source),
        server: party(server, flow.destination),
        verdict,
    }
}

/// Whether packets to an address can only mean this pod, and what reaches it is who it says it is.
fn still_leads_there(server: &Pod, to: SocketAddr) -> Result<(), String> {
    let addresses = interface_addresses(&server.netns)
        .map_err(|e| format!("cannot read the addresses of {server}: {e}"))?;
    if !addresses.contains(&to.ip()) {
        return Err(format!("{server} no longer has the address {}", to.ip()));
    }
    let setting = server
        .netns
        .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen"))
        .and_then(std::convert::identity)
        .map_err(|e| format!("cannot read tcp_fastopen of {server}: {e}"))?;
    match setting.trim().parse::<u32>() {
        Ok(bits) if bits & FAST_OPEN_SERVER == 0 => Ok(()),
        _ => Err(format!("{server} accepts TCP Fast Open")),
    }
}

fn said(pod: &Pod, cut: io::Result<usize>) {
    match cut {
        Ok(0) => {}
        Ok(ends) => tracing::info!("same-node: {ends} ends of direct connections cut in {pod}"),
        Err(e) => tracing::error!("same-node: cannot cut the direct connections of {pod}: {e}"),
    }
}
