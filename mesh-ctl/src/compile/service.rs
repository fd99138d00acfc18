//! Services, by `namespace/hostname`.

use std::net::IpAddr;

use mesh_common::proto::workload::Service as Wire;
use mesh_common::proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use mesh_common::proto::workload::{IpFamilies, LoadBalancing, NetworkAddress, Port};

use super::addresses::Claims;
use super::{alias, encode, octets};
use crate::model::{Distribution, Objects, Service, Target};
use crate::resources::{Compiled, Resource};

/// The name that clients resolve.
pub(super) fn hostname(service: &Service) -> String {
    let name = &service.meta.name;
    format!("{}.{}.svc.cluster.local", name.name, name.namespace)
}

/// The key under which workloads list the service.
pub(super) fn key(service: &Service) -> String {
    format!("{}/{}", service.meta.name.namespace, hostname(service))
}

pub(super) fn compile(objects: &Objects, out: &mut Compiled) {
    // The newest first, so that the oldest keeps a contested address.
    let mut services: Vec<&Service> = objects.services.values().collect();
    services.sort_by_key(|service| std::cmp::Reverse(service.meta.age_order()));
    let claims = services
        .iter()
        .map(|s| (&s.meta.name, s.addresses.as_slice()));
    let claims = Claims::settle("Service", claims, |line| {
        out.warnings.insert(line);
    });
    for service in objects.services.values() {
        if service.addresses.is_empty() && !service.headless {
            out.warnings.insert(format!(
                "{}: field spec.clusterIP: is missing, so the service has no virtual \
                 address; set it, or write None for a headless service",
                objects.describe("Service", &service.meta.name)
            ));
        }
        let vips = claims.kept(&service.meta.name, &service.addresses);
        let aliases = vips.iter().map(|vip| alias(*vip)).collect();
        let resource = Resource::new(
            &key(service),
            encode::service(wire(service, &vips)),
            aliases,
        );
        out.addresses.insert(resource.name.clone(), resource);
    }
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
        hostname: hostname(service),
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
