//! Turns objects into resources: total and deterministic. Equal objects give equal bytes, so that a
//! version changes only when the content does, and is the same on every replica.
//!
//! A [`Compiler`] keeps the objects with indices over them. A change marks what depends on it, by name,
//! and only that is compiled again; to mark too much costs time and never a wrong result, because what
//! comes out as it was is no change.

mod aliases;
mod authorization;
mod compiler;
mod dirty;
mod encode;
mod endpoint;
mod enrolment;
mod peer_authentication;
mod render;
mod service;
mod store;
mod warnings;
mod workload;

#[cfg(test)]
mod tests;

pub use compiler::Compiler;
pub use render::render;

use crate::model::Objects;
use crate::resources::{Compiled, Resource, Updates};

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
    let mut compiler = Compiler::new(options.clone());
    let step = compiler.replace(objects.clone());
    let there = |updates: Updates| -> _ {
        let some = |(name, resource): (_, Option<Resource>)| Some((name, resource?));
        updates.into_iter().filter_map(some).collect()
    };
    Compiled {
        addresses: there(step.addresses),
        policies: there(step.policies),
        enrolments: there(step.enrolments),
        identities: step.identities,
        warnings: compiler.warnings(),
    }
}

/// The wildcard network: Weft has one.
fn alias(address: std::net::IpAddr) -> String {
    format!("/{address}")
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
