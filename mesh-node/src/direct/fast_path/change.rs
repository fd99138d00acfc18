//! Changes of the state: what it no longer allows is withdrawn, and cut.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_common::abi::DirectEnd;

use super::ends::describe;
use super::{FastPath, LEASE, Member};
use crate::bpf::DirectRoute;
use crate::direct::connections::{Cut, Live};
use crate::direct::decide::{self, Denied};
use crate::direct::grants::{self, Granted};
use crate::direct::reaper::Flow;
use crate::pod::Pod;

/// A handshake that was under way when its exemption ended is over by then.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl FastPath {
    /// Holds everything against the newest state.
    pub(in crate::direct) fn recheck(&mut self) {
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

    /// When the next route is to be looked at again.
    pub(in crate::direct) fn next_look(&self) -> Option<Instant> {
        self.again.front().map(|(at, _)| *at)
    }

    /// Cuts what was in the middle of its handshake when its route was cut.
    pub(in crate::direct) fn look_again(&mut self) {
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
    pub(in crate::direct) fn close(&mut self) {
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
    pub(in crate::direct) fn cut_all(&mut self, why: &'static str) {
        self.connections.cut(|_| true, &Cut::Ended(why));
        // The accepting side first: it is the one that is protected.
        for side in [DirectEnd::Server, DirectEnd::Client] {
            for Member { pod, .. } in self.members.values() {
                said(pod, self.reaper.cut_marked(pod, side));
            }
        }
    }

    pub(super) fn withdraw(&mut self, route: &DirectRoute) {
        if let Err(e) = self.datapath.end_exemption(route) {
            // Still listed, so it is tried again; meanwhile the connections that it lets through are cut.
            tracing::error!("same-node: cannot end an exemption: {e}");
            return;
        }
        self.grants.remove(&grants::key(route));
    }

    /// Cuts the connections of a route, because the newest state denies them.
    pub(super) fn cut(&mut self, route: &DirectRoute, why: Denied) {
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
    pub(super) fn cut_sockets(&self, route: &DirectRoute) {
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
}

pub(super) fn said(pod: &Pod, cut: io::Result<usize>) {
    match cut {
        Ok(0) => {}
        Ok(ends) => tracing::info!("same-node: {ends} ends of direct connections cut in {pod}"),
        Err(e) => tracing::error!("same-node: cannot cut the direct connections of {pod}: {e}"),
    }
}
