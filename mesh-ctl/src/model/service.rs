//! Services: virtual addresses and the selectors behind them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::document::ServiceDocument;
use super::{FieldError, Labels, Meta, parse_address, parse_port};

/// Where a service port leads on an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The same on every endpoint.
    Number(u16),
    /// The container port of that name: each endpoint has its own.
    Named(String),
}

/// One TCP port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// By which EndpointSlices know it; may be empty.
    pub name: String,
    /// What clients dial.
    pub port: u16,
    /// What the endpoint listens on.
    pub target: Target,
}

/// `trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// `PreferClose`: region, zone, subzone.
    Close,
    /// `PreferSameZone`: region, zone.
    SameZone,
    /// `PreferSameNode`: down to the node.
    SameNode,
}

/// A service, reduced to what the mesh needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name and labels.
    pub meta: Meta,
    /// Cluster IPs; none when the service is headless.
    pub addresses: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// TCP ports; others are left out.
    pub ports: Vec<ServicePort>,
    /// Selects the endpoints; a service without one has none.
    pub selector: Option<Labels>,
    /// Endpoints serve although they are not ready.
    pub publish_not_ready: bool,
    /// `internalTrafficPolicy: Local`.
    pub local_only: bool,
    /// `trafficDistribution`.
    pub distribution: Option<Distribution>,
}

impl Service {
    /// Reduces the Kubernetes object; `None` for an ExternalName, which has no address.
    pub(crate) fn parse(mut service: ServiceDocument) -> Result<Option<Self>, FieldError> {
        let meta = Meta::namespaced(&mut service.metadata)?;
        let spec = service.spec.unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            return Ok(None);
        }
        let headless = spec.cluster_ip.as_deref() == Some("None");
        Ok(Some(Self {
            addresses: addresses(&spec)?,
            headless,
            ports: ports(&spec)?,
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            local_only: local_only(spec.internal_traffic_policy.as_deref())?,
            distribution: distribution(spec.traffic_distribution.as_deref())?,
            selector: spec.selector.filter(|selector| !selector.is_empty()),
            meta,
        }))
    }
}

fn addresses(spec: &v1::ServiceSpec) -> Result<Vec<IpAddr>, FieldError> {
    let mut all = Vec::new();
    let is_address = |ip: &&str| !ip.is_empty() && *ip != "None";
    if let Some(ip) = spec.cluster_ip.as_deref().filter(is_address) {
        all.push(parse_address("spec.clusterIP", ip)?);
    }
    for (i, ip) in spec.cluster_ips.iter().flatten().enumerate() {
        if is_address(&ip.as_str()) {
            let address = parse_address(&format!("spec.clusterIPs[{i}]"), ip)?;
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    Ok(all)
}

fn ports(spec: &v1::ServiceSpec) -> Result<Vec<ServicePort>, FieldError> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for (i, entry) in spec.ports.iter().flatten().enumerate() {
        if entry
            .protocol
            .as_deref()
            .is_some_and(|protocol| protocol != "TCP")
        {
            continue;
        }
        let port = parse_port(&format!("spec.ports[{i}].port"), entry.port.into())?;
        let target = match &entry.target_port {
            // Zero means absent in the Kubernetes API.
            None | Some(IntOrString::Int(0)) => Target::Number(port),
            Some(IntOrString::Int(number)) => Target::Number(parse_port(
                &format!("spec.ports[{i}].targetPort"),
                i64::from(*number),
            )?),
            Some(IntOrString::String(name)) => match name.parse::<u16>() {
                Ok(number) if number > 0 => Target::Number(number),
                _ => Target::Named(name.clone()),
            },
        };
        if ports.iter().any(|known| known.port == port) {
            return Err(FieldError::new(
                format!("spec.ports[{i}].port"),
                format!("TCP port {port} is listed twice; remove one"),
            ));
        }
        ports.push(ServicePort {
            name: entry.name.clone().unwrap_or_default(),
            port,
            target,
        });
    }
    Ok(ports)
}

fn local_only(value: Option<&str>) -> Result<bool, FieldError> {
    match value {
        None | Some("" | "Cluster") => Ok(false),
        Some("Local") => Ok(true),
        Some(other) => Err(FieldError::new(
            "spec.internalTrafficPolicy",
            format!("{other:?} is unknown; write Cluster or Local"),
        )),
    }
}

fn distribution(value: Option<&str>) -> Result<Option<Distribution>, FieldError> {
    match value {
        None | Some("") => Ok(None),
        Some("PreferClose") => Ok(Some(Distribution::Close)),
        Some("PreferSameZone") => Ok(Some(Distribution::SameZone)),
        Some("PreferSameNode") => Ok(Some(Distribution::SameNode)),
        Some(other) => Err(FieldError::new(
            "spec.trafficDistribution",
            format!("{other:?} is unknown; write PreferSameZone, PreferSameNode or PreferClose"),
        )),
    }
}
