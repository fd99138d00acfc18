//! EndpointSlices: who serves a service whose endpoints no selector finds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::document::Metadata;
use super::{FieldError, Meta, ObjectName, parse_address, parse_port};

/// Names the service that a slice belongs to.
const SERVICE: &str = "kubernetes.io/service-name";
/// Names the program that writes the slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Writes slices from selectors and pods, which Weft reads itself.
const FROM_SELECTORS: &str = "endpointslice-controller.k8s.io";
/// `discovery.k8s.io/v1beta1` has the place of an endpoint in a map with these keys.
const TOPOLOGY_NODE: &str = "kubernetes.io/hostname";
const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";

/// One network endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Of the slice's family, at least one; all of them lead to the same endpoint.
    pub addresses: Vec<IpAddr>,
    /// Ready to serve; an absent condition means so.
    pub ready: bool,
    /// Ready, also while it terminates; as `ready` when absent.
    pub serving: bool,
    /// Being deleted.
    pub terminating: bool,
    /// The pod behind it, when one is named.
    pub pod: Option<ObjectName>,
    /// Its node; empty when unknown.
    pub node: Arc<str>,
    /// Its zone; empty when unknown.
    pub zone: Arc<str>,
}

/// An EndpointSlice, reduced to what the mesh needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name and labels.
    pub meta: Meta,
    /// The service it belongs to.
    pub service: ObjectName,
    /// Its endpoints have IPv6 addresses; otherwise all have IPv4 ones.
    pub ipv6: bool,
    /// Who serves.
    pub endpoints: Vec<Endpoint>,
    /// TCP ports by name, which is that of the service's port and may be empty. `None`: every port, unchanged.
    pub ports: BTreeMap<String, Option<u16>>,
}

impl EndpointSlice {
    /// Reads the object. `None` for one that says nothing to the mesh: it belongs to no service, it has
    /// host names in place of addresses, or it repeats what selectors and pods say.
    pub(crate) fn parse(mut document: SliceDocument) -> Result<Option<Self>, FieldError> {
        let meta = Meta::namespaced(&mut document.metadata)?;
        let label = |key: &str| meta.labels.get(key).filter(|value| !value.is_empty());
        let Some(service) = label(SERVICE) else {
            return Ok(None);
        };
        if label(MANAGED_BY).is_some_and(|by| by == FROM_SELECTORS) {
            return Ok(None);
        }
        let ipv6 = match document.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            "FQDN" => return Ok(None),
            other => {
                return Err(FieldError::new(
                    "addressType",
                    format!("{other:?} is unknown; write IPv4, IPv6 or FQDN"),
                ));
            }
        };
        let endpoints = document.endpoints.unwrap_or_default();
        let endpoint = |(i, spec)| endpoint(i, spec, ipv6, &meta.name.namespace);
        Ok(Some(Self {
            service: ObjectName::new(&meta.name.namespace, service),
            ipv6,
            endpoints: endpoints
                .into_iter()
                .enumerate()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            ports: ports(document.ports.unwrap_or_default())?,
            meta,
        }))
    }
}

fn endpoint(
    i: usize,
    spec: EndpointSpec,
    ipv6: bool,
    namespace: &str,
) -> Result<Endpoint, FieldError> {
    if spec.addresses.is_empty() {
        return Err(FieldError::new(
            format!("endpoints[{i}].addresses"),
            "is empty; add an address or remove the endpoint",
        ));
    }
    let address = |(j, text): (usize, &String)| {
        let field = format!("endpoints[{i}].addresses[{j}]");
        let address = parse_address(&field, text)?;
        if address.is_ipv6() != ipv6 {
            return Err(FieldError::new(
                field,
                format!(
                    "{text:?} is not of the slice's addressType; move it to a slice of its own"
                ),
            ));
        }
        Ok(address)
    };
    let conditions = spec.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let mut topology = spec.deprecated_topology.or(spec.topology);
    let mut place = |key: &str| topology.as_mut().and_then(|t| t.remove(key));
    let node = spec.node_name.or_else(|| place(TOPOLOGY_NODE));
    let zone = spec.zone.or_else(|| place(TOPOLOGY_ZONE));
    let target = spec
        .target_ref
        .filter(|target| target.kind.as_deref() == Some("Pod"));
    Ok(Endpoint {
        addresses: spec
            .addresses
            .iter()
            .enumerate()
            .map(address)
            .collect::<Result<_, _>>()?,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or_default(),
        pod: target.and_then(|target| {
            let of = target.namespace.as_deref().unwrap_or(namespace);
            Some(ObjectName::new(of, &target.name?))
        }),
        node: node.as_deref().unwrap_or_default().into(),
        zone: zone.as_deref().unwrap_or_default().into(),
    })
}

fn ports(specs: Vec<PortSpec>) -> Result<BTreeMap<String, Option<u16>>, FieldError> {
    let mut ports = BTreeMap::new();
    for (i, spec) in specs.into_iter().enumerate() {
        if spec.protocol.is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        let field = format!("ports[{i}].port");
        let number = spec.port.map(|port| parse_port(&field, port)).transpose()?;
        let name = spec.name.unwrap_or_default();
        if ports.insert(name.clone(), number).is_some() {
            return Err(FieldError::new(
                format!("ports[{i}].name"),
                format!("{name:?} names two ports of the slice; rename one"),
            ));
        }
    }
    Ok(ports)
}

/// `discovery.k8s.io/v1` and `v1beta1` as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceDocument {
    metadata: Metadata,
    address_type: String,
    endpoints: Option<Vec<EndpointSpec>>,
    ports: Option<Vec<PortSpec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointSpec {
    addresses: Vec<String>,
    conditions: Option<ConditionsSpec>,
    target_ref: Option<TargetSpec>,
    node_name: Option<String>,
    zone: Option<String>,
    topology: Option<BTreeMap<String, String>>,
    deprecated_topology: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct ConditionsSpec {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct TargetSpec {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct PortSpec {
    name: Option<String>,
    port: Option<i64>,
    protocol: Option<String>,
}
