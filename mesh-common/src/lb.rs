//! The choice of an endpoint: pure, so that it can be tested without a network.
//!
//! The most local endpoints first, as far as the service asks for it; among those, two are drawn by
//! capacity and the one with less load for its capacity is taken. Endpoints without load are
//! therefore used in proportion to their capacity.

use rand::{Rng, RngExt};
use std::sync::Arc;

use crate::workload::{Mode, Scope, Service, Workload};

/// An endpoint that could serve.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    workload: &'a Arc<Workload>,
    port: u16,
    /// Active connections.
    load: u32,
}

impl Candidate<'_> {
    fn capacity(&self) -> u64 {
        u64::from(self.workload.capacity)
    }

    fn less_loaded_than(&self, other: &Self) -> bool {
        u64::from(self.load) * other.capacity() < u64::from(other.load) * self.capacity()
    }
}

/// Chooses an endpoint of `service` for a client that dialled `port`, and the port to reach it on.
///
/// `candidates` are the endpoints of the service, `load` says how many connections each has now, `tried`
/// are the uids that failed already. None when no endpoint is left: not ready, without capacity or address,
/// in another network, without that port, tried, or excluded by locality. For [`Mode::Passthrough`] the
/// caller keeps the address that was dialled instead of asking here.
pub fn choose<'a>(
    service: &Service,
    port: u16,
    client: &Workload,
    candidates: impl Iterator<Item = &'a Arc<Workload>>,
    load: impl Fn(&Workload) -> u32,
    tried: &[Arc<str>],
    rng: &mut impl Rng,
) -> Option<(Arc<Workload>, u16)> {
    let service_port = service.ports.iter().find(|p| p.service_port == port)?;
    let mut best = Vec::new();
    let mut best_rank = 0;
    for workload in candidates {
        if !usable(service, client, workload) || tried.contains(&workload.uid) {
            continue;
        }
        let Some(target) = target_port(service, service_port.target_port, workload, port) else {
            continue;
        };
        let Some(rank) = rank(service, client, workload) else {
            continue;
        };
        if rank > best_rank {
            best.clear();
            best_rank = rank;
        }
        if rank == best_rank {
            best.push(Candidate {
                workload,
                port: target,
                load: load(workload),
            });
        }
    }
    let chosen = draw_two(&mut best, rng)?;
    Some((chosen.workload.clone(), chosen.port))
}

fn usable(service: &Service, client: &Workload, workload: &Workload) -> bool {
    (workload.healthy || service.load_balancing.allow_unhealthy)
        && workload.capacity > 0
        && !workload.addresses.is_empty()
        && workload.network == client.network
}

/// What the workload says of the port, or else the service.
fn target_port(service: &Service, default: u16, workload: &Workload, port: u16) -> Option<u16> {
    let own = workload
        .services
        .get(service.key())?
        .iter()
        .find(|p| p.service_port == port);
    [own.map_or(0, |p| p.target_port), default]
        .into_iter()
        .find(|port| *port != 0)
}

/// Whether the service never leads this client to this endpoint, because of where they are.
#[must_use]
pub fn rules_out(service: &Service, client: &Workload, workload: &Workload) -> bool {
    rank(service, client, workload).is_none()
}

/// How many of the scopes, counted from the first, the workload shares with the client; none when the
/// service rules it out.
fn rank(service: &Service, client: &Workload, workload: &Workload) -> Option<usize> {
    let scopes = &service.load_balancing.scopes;
    let shared = || {
        scopes
            .iter()
            .take_while(|scope| shares(**scope, client, workload))
            .count()
    };
    match service.load_balancing.mode {
        Mode::Any | Mode::Passthrough => Some(0),
        Mode::Failover => Some(shared()),
        Mode::Strict => Some(shared()).filter(|shared| *shared == scopes.len()),
    }
}

fn shares(scope: Scope, client: &Workload, workload: &Workload) -> bool {
    match scope {
        Scope::Region => client.locality.region == workload.locality.region,
        Scope::Zone => client.locality.zone == workload.locality.zone,
        Scope::Subzone => client.locality.subzone == workload.locality.subzone,
        Scope::Node => client.node == workload.node,
        Scope::Cluster => client.cluster_id == workload.cluster_id,
        Scope::Network => client.network == workload.network,
    }
}

fn draw_two<'a>(from: &mut Vec<Candidate<'a>>, rng: &mut impl Rng) -> Option<Candidate<'a>> {
    let first = draw(from, rng)?;
    match draw(from, rng) {
        Some(second) if second.less_loaded_than(&first) => Some(second),
        _ => Some(first),
    }
}

/// Takes one out, with a chance in proportion to its capacity.
fn draw<'a>(from: &mut Vec<Candidate<'a>>, rng: &mut impl Rng) -> Option<Candidate<'a>> {
    let total: u64 = from.iter().map(Candidate::capacity).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = rng.random_range(0..total);
    let drawn = from.iter().position(|candidate| {
        let hit = ticket < candidate.capacity();
        ticket = ticket.saturating_sub(candidate.capacity());
        hit
    })?;
    Some(from.swap_remove(drawn))
}

#[cfg(test)]
mod tests;
