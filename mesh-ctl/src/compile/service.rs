//! Services, by `namespace/hostname`.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_common::proto::workload::Service as Wire;
use mesh_common::proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use mesh_common::proto::workload::{IpFamilies, LoadBalancing, NetworkAddress, Port};

use super::store::Store;
use super::{alias, encode, octets};
use crate::model::{Distribution, ObjectName, Service, Target};
use crate::resources::{Kind, Resource};

/// The name that clients resolve.
fn hostname(name: &ObjectName) -> String {
    format!("{}.{}.svc.cluster.local", name.name, name.namespace)
}

/// The key under which workloads list the service.
pub(super) fn key(name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, hostname(name))
}

/// The service by its key, and what is wrong with it.
pub(super) fn compile(
    name: &ObjectName,
    store: &Store,
) -> (Arc<str>, Option<Resource>, Vec<String>) {
    let key: Arc<str> = key(name).into();
    let Some(service) = store.services.get(name) else {
        return (key, None, Vec::new());
    };
    let mut warnings = Vec::new();
    if service.addresses.is_empty() && !service.headless {
        warnings.push(format!(
            "{}: field spec.clusterIP: is missing, so the service has no virtual address; set it, or \
             write None for a headless service",
            store.describe("Service", name)
        ));
    }
    let kept = |vip: &&IpAddr| {
        let claimants = store.service_claimants(**vip);
        claimants
            .last()
            .is_some_and(|owner| owner.meta.name == *name)
    };
    let vips: Vec<IpAddr> = service.addresses.iter().filter(kept).copied().collect();
    let resource = Resource::new(
        Kind::Address,
        &key,
        encode::service(wire(service, &vips)),
        vips.iter().map(|vip| alias(*vip)).collect(),
    );
    (key, Some(resource), warnings)
}

fn wire(service: &Service, vips: &[IpAddr]) -> Wire {
    let port = |port: &crate::model::ServicePort| Port {
        service_port: port.port.into(),
        target_port: match port.target {
            Target::Number(number) => number.into(),
            Target::Named(_) => 0,
        },
        app_protocol: 0,
    };
    let families = (
        vips.iter().any(IpAddr::is_ipv4),
        vips.iter().any(IpAddr::is_ipv6),
    );
    Wire {
        name: service.meta.name.name.to_string(),
        namespace: service.meta.name.namespace.to_string(),
        hostname: hostname(&service.meta.name),
        addresses: vips
            .iter()
            .map(|vip| NetworkAddress {
                address: octets(*vip),
                ..NetworkAddress::default()
            })
            .collect(),
        ports: service.ports.iter().map(port).collect(),
        load_balancing: load_balancing(service),
        ip_families: match families {
            (true, true) => IpFamilies::Dual,
            (true, false) => IpFamilies::Ipv4Only,
            (false, true) => IpFamilies::Ipv6Only,
            (false, false) => IpFamilies::Automatic,
        }
        .into(),
        canonical: true,
        ..Wire::default()
    }
}

fn load_balancing(service: &Service) -> Option<LoadBalancing> {
    let (mode, scopes): (Mode, &[Scope]) = match service.distribution {
        _ if service.local_only => (Mode::Strict, &[Scope::Node]),
        None => (Mode::UnspecifiedMode, &[]),
        Some(Distribution::SameZone) => (
            Mode::Failover,
            &[Scope::Network, Scope::Region, Scope::Zone],
        ),
        Some(Distribution::Close) => (
            Mode::Failover,
            &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone],
        ),
        Some(Distribution::SameNode) => (
            Mode::Failover,
            &[
                Scope::Network,
                Scope::Region,
                Scope::Zone,
                Scope::Subzone,
                Scope::Node,
            ],
        ),
    };
    if mode == Mode::UnspecifiedMode && !service.publish_not_ready {
        return None;
    }
    let health = if service.publish_not_ready {
        HealthPolicy::AllowAll
    } else {
        HealthPolicy::OnlyHealthy
    };
    Some(LoadBalancing {
        routing_preference: scopes.iter().map(|scope| (*scope).into()).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    })
}
