//! What no event tells: the lease, destinations that moved, events that were lost, pods that left.

use mesh_common::abi::DirectEnd;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::{FastPath, LEASE, Member};
use crate::bpf::{DirectRoute, since_boot};
use crate::direct::connections::Live;
use crate::direct::reaper::Flow;
use crate::pod::Pod;
use crate::sys::interface_addresses;

/// With this bit of tcp_fastopen, data in a SYN is taken before anything proves where it came from.
const FAST_OPEN_SERVER: u32 = 2;

impl FastPath {
    /// What is due from time to time: the lease, and what tells itself by no event.
    pub(in crate::direct) fn tick(&mut self, leased: bool) {
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
    pub(in crate::direct) fn reconcile(&mut self) {
        let mut found: HashSet<(Flow, DirectEnd)> = HashSet::new();
        let began = since_boot();
        for Member { pod, .. } in self.members.values() {
            match self.reaper.ends(pod) {
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
}

/// Whether packets to an address can only mean this pod, and what reaches it is who it says it is.
pub(super) fn still_leads_there(server: &Pod, to: SocketAddr) -> Result<(), String> {
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
