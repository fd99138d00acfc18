//! Turns objects into resources: pure, total and deterministic. Equal objects give equal bytes, so
//! that a version changes only when the content does.

mod addresses;
mod aliases;
mod authorization;
mod encode;
mod peer_authentication;
mod render;
mod service;
mod workload;

pub use render::render;

use std::sync::Arc;

use crate::model::Objects;
use crate::resources::Compiled;

/// What the compilation depends on besides the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the cluster, in workload uids.
    pub cluster_id: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// Other names of it, which principals in policies may use.
    pub trust_domain_aliases: Vec<String>,
    /// Policies of this namespace are for the whole mesh.
    pub root_namespace: String,
    /// The label that enrols.
    pub dataplane_label: String,
    /// The value of it that enrols.
    pub dataplane_value: String,
}

/// Compiles everything.
pub fn compile(objects: &Objects, options: &Options) -> Compiled {
    let mut out = Compiled::default();
    for pod in objects
        .pods
        .values()
        .filter(|pod| !pod.finished && !pod.node.is_empty())
    {
        out.identities
            .insert(&pod.node, &pod.meta.name.namespace, &pod.service_account);
    }
    let mut policies = authorization::compile(objects, options, &mut out);
    policies.extend(peer_authentication::compile(objects, options, &mut out));
    service::compile(objects, &mut out);
    workload::compile(objects, options, &policies, &mut out);
    out
}

/// A policy that the workloads it selects must list.
struct Listed {
    /// `namespace/name` of the policy.
    key: Arc<str>,
    /// Whether it is for that pod.
    selects: Box<dyn Fn(&crate::model::Pod) -> bool>,
}

/// The wildcard network: Weft has one.
fn alias(address: std::net::IpAddr) -> Arc<str> {
    format!("/{address}").into()
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
