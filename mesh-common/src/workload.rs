//! Workloads and services as the rest of the program uses them: decoded once, valid from then on.
//!
//! The only way to make a [`Workload`] or a [`Service`] is from its wire form, and what the wire form
//! says wrongly is an error that names object and field. Addresses are canonical: never IPv4-mapped.

use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::decode::{self, DecodeError, FieldError};
use crate::identity::{SpiffeId, TrustDomain};
use crate::policy::PolicyNames;
use crate::proto::workload as wire;

/// How a workload is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tunnel {
    /// In the clear.
    #[default]
    None,
    /// Through HBONE, in mutual TLS.
    Hbone,
}

/// Where a workload runs; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone in the region.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

/// A port of a service and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// The port that clients dial.
    pub service_port: u16,
    /// The application's port; 0 in a service means that each workload says it.
    pub target_port: u16,
}

/// One workload (a pod).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The resource's name: `cluster/group/kind/namespace/name`.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// `service.name` for telemetry.
    pub canonical_name: Arc<str>,
    /// `service.version` for telemetry.
    pub canonical_revision: Arc<str>,
    /// Name of the controller object, such as the deployment.
    pub workload_name: Arc<str>,
    /// Its kind: `deployment`, `cronjob`, `pod` or `job`.
    pub workload_type: Arc<str>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// Its cluster.
    pub cluster_id: Arc<str>,
    /// Its network; addresses mean something only inside it.
    pub network: Arc<str>,
    /// A DNS name, when it has no address.
    pub hostname: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How it is reached.
    pub tunnel: Tunnel,
    /// Where it runs.
    pub locality: Locality,
    /// Whether it is ready.
    pub healthy: bool,
    /// Load-balancing weight; 0 takes no connections.
    pub capacity: u32,
    /// Whether it shares the node's addresses.
    pub host_network: bool,
    /// The services it is an endpoint of, by `namespace/hostname`.
    pub services: BTreeMap<Arc<str>, Vec<ServicePort>>,
    /// The policies that select it, by `namespace/name`.
    pub policies: PolicyNames,
    /// Whether it is meant to be reached through a waypoint.
    pub waypoint: bool,
    identity: SpiffeId,
}

impl Workload {
    /// The identity that the workload proves and must prove.
    #[must_use]
    pub fn identity(&self) -> SpiffeId {
        self.identity.clone()
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = DecodeError;

    fn try_from(from: wire::Workload) -> Result<Self, DecodeError> {
        let object = format!("workload {:?}", from.uid);
        decode_workload(from).map_err(|e| e.of(object))
    }
}

fn decode_workload(from: wire::Workload) -> Result<Workload, FieldError> {
    decode::not_empty(&from.uid, "uid")?;
    decode::not_empty(&from.name, "name")?;
    let trust_domain = match from.trust_domain.as_str() {
        "" => "cluster.local",
        stated => stated,
    };
    let trust_domain: TrustDomain = trust_domain
        .parse()
        .map_err(|e| FieldError::new("trust_domain", e))?;
    let service_account = match from.service_account.as_str() {
        "" => "default",
        stated => stated,
    };
    let identity = SpiffeId::new(&trust_domain, &from.namespace, service_account)
        .map_err(|e| FieldError::new("namespace or service_account", e))?;
    let addresses = from.addresses.iter().enumerate();
    let addresses: Vec<IpAddr> = addresses
        .map(|(i, bytes)| decode::ip(bytes, format_args!("addresses[{i}]")))
        .collect::<Result<_, _>>()?;
    // A tunnel kind that is unknown must not become plaintext.
    let tunnel = match decode::known(from.tunnel_protocol, "tunnel_protocol")? {
        wire::TunnelProtocol::Hbone => Tunnel::Hbone,
        wire::TunnelProtocol::None | wire::TunnelProtocol::LegacyIstioMtls => Tunnel::None,
    };
    let host_network = match decode::known(from.network_mode, "network_mode")? {
        wire::NetworkMode::HostNetwork => true,
        wire::NetworkMode::Standard => false,
    };
    let workload_type = match wire::WorkloadType::try_from(from.workload_type) {
        Ok(wire::WorkloadType::Deployment) => "deployment",
        Ok(wire::WorkloadType::Cronjob) => "cronjob",
        Ok(wire::WorkloadType::Job) => "job",
        Ok(wire::WorkloadType::Pod) | Err(_) => "pod",
    };
    let locality = from.locality.unwrap_or_default();
    Ok(Workload {
        namespace: from.namespace.into(),
        service_account: service_account.into(),
        trust_domain,
        workload_type: workload_type.into(),
        addresses,
        tunnel,
        locality: Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            subzone: locality.subzone.into(),
        },
        healthy: from.status == wire::WorkloadStatus::Healthy as i32,
        capacity: from.capacity.unwrap_or(1),
        host_network,
        services: endpoints_of(from.services)?,
        policies: from.authorization_policies.into_iter().collect(),
        waypoint: from.waypoint.is_some(),
        uid: from.uid.into(),
        name: from.name.into(),
        canonical_name: from.canonical_name.into(),
        canonical_revision: from.canonical_revision.into(),
        workload_name: from.workload_name.into(),
        node: from.node.into(),
        cluster_id: from.cluster_id.into(),
        network: from.network.into(),
        hostname: from.hostname.into(),
        identity,
    })
}

fn endpoints_of(
    from: std::collections::HashMap<String, wire::PortList>,
) -> Result<BTreeMap<Arc<str>, Vec<ServicePort>>, FieldError> {
    let decode = |(key, list): (String, wire::PortList)| {
        match key.split_once('/') {
            Some((namespace, host)) if !namespace.is_empty() && !host.is_empty() => {}
            _ => {
                return Err(FieldError::new(
                    "services",
                    format!("key {key:?} is not namespace/hostname"),
                ));
            }
        }
        let ports =
            service_ports(&list.ports).map_err(|e| e.inside(format_args!("services[{key:?}]")))?;
        Ok((key.into(), ports))
    };
    from.into_iter().map(decode).collect()
}

fn service_ports(from: &[wire::Port]) -> Result<Vec<ServicePort>, FieldError> {
    let decode = |(i, p): (usize, &wire::Port)| {
        Ok(ServicePort {
            service_port: decode::port(p.service_port, format_args!("ports[{i}].service_port"))?,
            target_port: decode::port(p.target_port, format_args!("ports[{i}].target_port"))?,
        })
    };
    from.iter().enumerate().map(decode).collect()
}

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All alike.
    #[default]
    Any,
    /// Only those that match every scope.
    Strict,
    /// Those that match more scopes, in the order given, first.
    Failover,
    /// The address that the client dialled is kept; no endpoint is chosen.
    Passthrough,
}

/// What an endpoint can share with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The region.
    Region,
    /// The zone.
    Zone,
    /// The subzone.
    Subzone,
    /// The node.
    Node,
    /// The cluster.
    Cluster,
    /// The network.
    Network,
}

/// How an endpoint of a service is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadBalancing {
    /// Which endpoints are preferred.
    pub mode: Mode,
    /// What they should share with the client, most important first.
    pub scopes: Vec<Scope>,
    /// Whether endpoints that are not ready are used as well.
    pub allow_unhealthy: bool,
}

/// A virtual address and the ports behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its DNS name.
    pub hostname: Arc<str>,
    /// Its virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Identities accepted from endpoints besides their own.
    pub subject_alt_names: Vec<SpiffeId>,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// Whether it is meant to be reached through a waypoint.
    pub waypoint: bool,
    key: Arc<str>,
}

impl Service {
    /// The resource's name: `namespace/hostname`.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
}

impl TryFrom<wire::Service> for Service {
    type Error = DecodeError;

    fn try_from(from: wire::Service) -> Result<Self, DecodeError> {
        let key = format!("{}/{}", from.namespace, from.hostname);
        let object = format!("service {key:?}");
        decode_service(from, key.into()).map_err(|e| e.of(object))
    }
}

fn decode_service(from: wire::Service, key: Arc<str>) -> Result<Service, FieldError> {
    decode::not_empty(&from.namespace, "namespace")?;
    decode::not_empty(&from.hostname, "hostname")?;
    let names = from.subject_alt_names.iter().enumerate();
    let subject_alt_names = names
        .map(|(i, name)| {
            name.parse()
                .map_err(|e| FieldError::new(format_args!("subject_alt_names[{i}]"), e))
        })
        .collect::<Result<_, _>>()?;
    Ok(Service {
        vips: virtual_addresses(&from.addresses)?,
        ports: service_ports(&from.ports)?,
        subject_alt_names,
        load_balancing: from
            .load_balancing
            .map_or_else(|| Ok(LoadBalancing::default()), balancing)?,
        waypoint: from.waypoint.is_some() || !from.weighted_waypoints.is_empty(),
        name: from.name.into(),
        namespace: from.namespace.into(),
        hostname: from.hostname.into(),
        key,
    })
}

/// Ranges are left out: nothing can be looked up by them, so their traffic is that of an unknown address.
fn virtual_addresses(from: &[wire::NetworkAddress]) -> Result<Vec<IpAddr>, FieldError> {
    let mut vips = Vec::with_capacity(from.len());
    for (i, address) in from.iter().enumerate() {
        let ip = decode::ip(&address.address, format_args!("addresses[{i}].address"))?;
        if address
            .length
            .is_none_or(|length| length as usize >= 8 * address.address.len())
        {
            vips.push(ip);
        }
    }
    Ok(vips)
}

fn balancing(from: wire::LoadBalancing) -> Result<LoadBalancing, FieldError> {
    use wire::load_balancing as lb;
    let mode = match decode::known(from.mode, "load_balancing.mode")? {
        lb::Mode::UnspecifiedMode => Mode::Any,
        lb::Mode::Strict => Mode::Strict,
        lb::Mode::Failover => Mode::Failover,
        lb::Mode::Passthrough => Mode::Passthrough,
    };
    let mut scopes = Vec::with_capacity(from.routing_preference.len());
    for scope in from.routing_preference {
        scopes.push(
            match decode::known(scope, "load_balancing.routing_preference")? {
                lb::Scope::UnspecifiedScope => continue,
                lb::Scope::Region => Scope::Region,
                lb::Scope::Zone => Scope::Zone,
                lb::Scope::Subzone => Scope::Subzone,
                lb::Scope::Node => Scope::Node,
                lb::Scope::Cluster => Scope::Cluster,
                lb::Scope::Network => Scope::Network,
            },
        );
    }
    let allow_unhealthy = from.health_policy == lb::HealthPolicy::AllowAll as i32;
    Ok(LoadBalancing {
        mode,
        scopes,
        allow_unhealthy,
    })
}

#[cfg(test)]
mod tests;
