//! Where a captured connection was going, and who it is from.

use mesh_common::identity::SpiffeId;
use mesh_common::lb;
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::{Mode, Service, Tunnel, Workload};
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;

use super::loads::Loads;
use crate::pod::Pod;
use crate::socket::Socket;

/// A connection that left a pod and was redirected to the agent.
#[derive(Debug)]
pub(super) struct Captured {
    /// The pod whose listener accepted it.
    pub(super) pod: Arc<Pod>,
    /// The application's end.
    pub(super) tcp: Socket,
    /// The application's address.
    pub(super) client: SocketAddr,
    /// Where the application dialled.
    pub(super) destination: SocketAddr,
}

/// The next hop of an outbound connection.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// Through a tunnel to a workload in the mesh.
    Tunnel {
        workload: Arc<Workload>,
        /// The application's address there.
        authority: SocketAddr,
        service: Option<Arc<Service>>,
    },
    /// In the clear, as without a mesh.
    Passthrough {
        workload: Option<Arc<Workload>>,
        address: SocketAddr,
        service: Option<Arc<Service>>,
    },
}

/// A destination that is known but cannot be reached.
#[derive(Debug, Error)]
pub(super) enum NoRoute {
    #[error("service {0} has no port {1}")]
    NoPort(String, u16),
    #[error("service {0} has no healthy endpoint for port {1} that was not tried already")]
    NoEndpoint(String, u16),
    #[error("workload {0} has no address of the family of {1}")]
    NoAddress(String, SocketAddr),
    #[error(
        "{0} is behind a waypoint, which this version cannot use; going around it would skip its policies"
    )]
    Waypoint(String),
}

impl Route {
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Tunnel { service, .. } | Self::Passthrough { service, .. } => service.as_ref(),
        }
    }

    pub(super) fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Tunnel { workload, .. } => Some(workload),
            Self::Passthrough { workload, .. } => workload.as_ref(),
        }
    }

    /// The application's address at the next hop.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Tunnel { authority, .. } => *authority,
            Self::Passthrough { address, .. } => *address,
        }
    }

    /// The identities of which the peer must prove one.
    pub(super) fn expected(workload: &Workload, service: Option<&Arc<Service>>) -> Arc<[SpiffeId]> {
        let alternatives = service
            .map(|s| s.subject_alt_names.as_slice())
            .unwrap_or_default();
        std::iter::once(workload.identity())
            .chain(alternatives.iter().cloned())
            .collect()
    }
}

/// Chooses the next hop for `destination`, not among the workloads (uids) in `tried`.
pub(super) fn route(
    snapshot: &Snapshot,
    client: &Workload,
    destination: SocketAddr,
    loads: &Loads,
    tried: &[Arc<str>],
) -> Result<Route, NoRoute> {
    if let Some(service) = snapshot.service_by_vip(destination.ip()) {
        return through_service(snapshot, client, service, destination, loads, tried);
    }
    match snapshot.workload_by_ip(destination.ip()) {
        Some(workload) => to_workload(workload.clone(), destination, None),
        None => Ok(Route::Passthrough {
            workload: None,
            address: destination,
            service: None,
        }),
    }
}

fn through_service(
    snapshot: &Snapshot,
    client: &Workload,
    service: &Arc<Service>,
    destination: SocketAddr,
    loads: &Loads,
    tried: &[Arc<str>],
) -> Result<Route, NoRoute> {
    let port = destination.port();
    if service.waypoint {
        return Err(NoRoute::Waypoint(format!("service {}", service.hostname)));
    }
    if !service.ports.iter().any(|p| p.service_port == port) {
        return Err(NoRoute::NoPort(service.hostname.to_string(), port));
    }
    if service.load_balancing.mode == Mode::Passthrough {
        let service = Some(service.clone());
        return Ok(Route::Passthrough {
            workload: None,
            address: destination,
            service,
        });
    }
    let chosen = lb::choose(
        service,
        port,
        client,
        snapshot.endpoints(service),
        |workload| loads.of(&workload.uid),
        tried,
        &mut rand::rng(),
    );
    let Some((workload, target)) = chosen else {
        return Err(NoRoute::NoEndpoint(service.hostname.to_string(), port));
    };
    let same_family = |ip: &&std::net::IpAddr| ip.is_ipv4() == destination.is_ipv4();
    let Some(ip) = workload
        .addresses
        .iter()
        .find(same_family)
        .or(workload.addresses.first())
    else {
        return Err(NoRoute::NoAddress(workload.uid.to_string(), destination));
    };
    let address = SocketAddr::new(*ip, target);
    to_workload(workload, address, Some(service.clone()))
}

fn to_workload(
    workload: Arc<Workload>,
    address: SocketAddr,
    service: Option<Arc<Service>>,
) -> Result<Route, NoRoute> {
    if workload.waypoint {
        return Err(NoRoute::Waypoint(format!("workload {}", workload.uid)));
    }
    Ok(match workload.tunnel {
        Tunnel::Hbone => Route::Tunnel {
            workload,
            authority: address,
            service,
        },
        Tunnel::None => Route::Passthrough {
            workload: Some(workload),
            address,
            service,
        },
    })
}
