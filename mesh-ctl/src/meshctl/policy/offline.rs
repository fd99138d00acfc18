//! The state that agents would hold if a directory were applied.

use std::path::{Path, PathBuf};

use mesh_common::identity::TrustDomain;
use mesh_common::proto::security::Authorization;
use mesh_common::proto::workload::Address;
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use prost::Message as _;

use crate::compile::{self, compile};
use crate::meshctl::CliError;
use crate::model::{Mode, ObjectName, Objects};
use crate::resources::Compiled;
use crate::source::{self, Problems};

/// What the controller is told of the mesh.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The mesh, as its controller is told of it (for directories)")]
pub(super) struct MeshOptions {
    /// Trust domain of every identity
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = trust_domain)]
    pub(super) trust_domain: TrustDomain,
    /// Another name of the trust domain; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = trust_domain)]
    pub(super) trust_domain_alias: Vec<TrustDomain>,
    /// Namespace whose policies are for the whole mesh
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub(super) root_namespace: String,
    /// Label on a namespace or pod that enrols it
    #[arg(long, value_name = "KEY", default_value = "istio.io/dataplane-mode")]
    pub(super) dataplane_label: String,
    /// Value of that label that enrols
    #[arg(long, value_name = "VALUE", default_value = "ambient")]
    pub(super) dataplane_value: String,
    /// Directory of the pods, services and whatever else is there besides; policies in it are left out
    #[arg(long, value_name = "DIR")]
    pub(super) with: Option<PathBuf>,
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    text.parse().map_err(|e| format!("{e}"))
}

impl MeshOptions {
    fn compile_options(&self) -> compile::Options {
        let aliases = self.trust_domain_alias.iter();
        compile::Options {
            cluster_id: "Kubernetes".into(),
            trust_domain: self.trust_domain.to_string(),
            trust_domain_aliases: aliases.map(ToString::to_string).collect(),
            root_namespace: self.root_namespace.clone(),
            dataplane_label: self.dataplane_label.clone(),
            dataplane_value: self.dataplane_value.clone(),
        }
    }
}

/// A directory, and what agents would hold of it.
pub(super) struct Offline {
    /// What was read.
    pub(super) objects: Objects,
    /// What agents hold.
    pub(super) snapshot: Snapshot,
    /// The root namespace.
    pub(super) root_namespace: String,
}

impl Offline {
    /// Reads `directory` and compiles it.
    ///
    /// # Errors
    /// One line for each thing that must be corrected first: file, object, field and what to do.
    pub(super) fn load(directory: &Path, mesh: &MeshOptions) -> Result<Self, CliError> {
        let objects = read(directory, mesh).map_err(|problems| unreadable(&problems))?;
        Self::of(objects, mesh)
    }

    /// Compiles what was read.
    ///
    /// # Errors
    /// A resource that an agent could not use, which the compiler never makes.
    pub(super) fn of(objects: Objects, mesh: &MeshOptions) -> Result<Self, CliError> {
        let compiled = compile(&objects, &mesh.compile_options());
        Ok(Self {
            snapshot: snapshot(&compiled)?,
            objects,
            root_namespace: mesh.root_namespace.clone(),
        })
    }

    /// Where the policy `namespace/name` of the agents was read from: its file, document and object.
    pub(super) fn origin(&self, policy: &str) -> Option<String> {
        let (namespace, name) = policy.split_once('/')?;
        let own = ObjectName::new(namespace, name);
        if self.objects.authorization_policies.contains_key(&own) {
            return Some(self.objects.describe("AuthorizationPolicy", &own));
        }
        let peer = ObjectName::new(namespace, name.strip_prefix(CONVERTED)?);
        let peers = &self.objects.peer_authentications;
        if peers.contains_key(&peer) {
            return Some(self.objects.describe("PeerAuthentication", &peer));
        }
        // One policy stands for all that are STRICT.
        let strict = peers.iter().filter(|(_, peer)| peer.mode == Mode::Strict);
        let described = strict.map(|(name, _)| self.objects.describe("PeerAuthentication", name));
        let all: Vec<_> = described.collect();
        (!all.is_empty()).then(|| all.join(" or "))
    }
}

/// What the names of policies begin with that PeerAuthentications become.
pub(super) const CONVERTED: &str = "istio_converted_";

/// The objects of a directory, and those that are there besides.
///
/// # Errors
/// All that must be corrected first.
pub(super) fn read(directory: &Path, mesh: &MeshOptions) -> Result<Objects, Problems> {
    let own = source::read(directory)?;
    let Some(with) = &mesh.with else {
        return Ok(own);
    };
    let mut all = source::read(with)?;
    all.namespaces.extend(own.namespaces);
    all.nodes.extend(own.nodes);
    all.service_accounts.extend(own.service_accounts);
    all.pods.extend(own.pods);
    all.services.extend(own.services);
    all.endpoint_slices.extend(own.endpoint_slices);
    // What is taken out of the directory must not stay because it is there besides.
    all.authorization_policies = own.authorization_policies;
    all.peer_authentications = own.peer_authentications;
    all.origins.extend(own.origins);
    Ok(all)
}

/// All that is wrong, one line each.
pub(super) fn unreadable(problems: &Problems) -> CliError {
    CliError::Failed(problems.to_string())
}

/// What an agent makes of the resources.
fn snapshot(compiled: &Compiled) -> Result<Snapshot, CliError> {
    let failed = |e: &dyn std::fmt::Display| {
        CliError::Failed(format!(
            "{e}; this is a mistake in meshctl, please report it"
        ))
    };
    let mut builder = SnapshotBuilder::default();
    for (name, policy) in &compiled.policies {
        let policy = Authorization::decode(policy.body()).map_err(|e| failed(&e))?;
        builder
            .upsert_policy(name, policy)
            .map_err(|e| failed(&e))?;
    }
    for (name, address) in &compiled.addresses {
        let address = Address::decode(address.body()).map_err(|e| failed(&e))?;
        builder
            .upsert_address(name, address)
            .map_err(|e| failed(&e))?;
    }
    Ok(builder.to_snapshot())
}
