//! What the checks look at: the objects, what agents hold of them, and how they hang together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_common::identity::TrustDomain;
use mesh_common::workload::{Tunnel, Workload};

use super::finding::{Code, Finding};
use crate::meshctl::policy::offline::{MeshOptions, Offline};
use crate::model::{AuthorizationPolicy, Labels, ObjectName, PeerAuthentication, Pod, selects};

pub(super) struct World<'a> {
    pub(super) offline: &'a Offline,
    pub(super) mesh: &'a MeshOptions,
    /// Namespaces that any object is in, or that are objects themselves.
    pub(super) namespaces: BTreeSet<&'a str>,
    /// Service accounts that are objects or that a pod runs as.
    pub(super) accounts: BTreeSet<(&'a str, &'a str)>,
    found: Vec<Finding>,
}

impl<'a> World<'a> {
    pub(super) fn new(offline: &'a Offline, mesh: &'a MeshOptions) -> Self {
        let objects = &offline.objects;
        let named = objects.namespaces.keys().map(|name| &*name.name);
        let of_pods = objects.pods.keys().map(|name| &*name.namespace);
        let of_services = objects.services.keys().map(|name| &*name.namespace);
        let of_accounts = objects.service_accounts.iter().map(|name| &*name.namespace);
        let namespaces: BTreeSet<_> = named
            .chain(of_pods)
            .chain(of_services)
            .chain(of_accounts)
            .collect();
        let stated = objects.service_accounts.iter();
        let stated = stated.map(|name| (&*name.namespace, &*name.name));
        let used = objects.pods.iter();
        let used = used.map(|(name, pod)| (&*name.namespace, &*pod.service_account));
        // Every namespace has one of this name.
        let default = namespaces.iter().map(|namespace| (*namespace, "default"));
        let accounts = stated.chain(used).chain(default).collect();
        Self {
            offline,
            mesh,
            namespaces,
            accounts,
            found: Vec::new(),
        }
    }

    /// What was found, in the order of the files.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut found = self.found;
        found.sort();
        found.dedup();
        found
    }

    pub(super) fn policies(
        &self,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a AuthorizationPolicy)> + use<'a> {
        self.offline.objects.authorization_policies.iter()
    }

    pub(super) fn peers(
        &self,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a PeerAuthentication)> + use<'a> {
        self.offline.objects.peer_authentications.iter()
    }

    /// Whether the namespace's policies are for the whole mesh.
    pub(super) fn is_root(&self, namespace: &str) -> bool {
        namespace == self.offline.root_namespace
    }

    /// The pods that a policy of that name and selector is for, unless they have run to their end.
    pub(super) fn pods(
        &self,
        name: &'a ObjectName,
        selector: Option<&'a Labels>,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a Pod)> + use<'a> {
        let everywhere = self.is_root(&name.namespace);
        let pods = self.offline.objects.pods.iter();
        pods.filter(move |(pod, of)| {
            let reached = everywhere || pod.namespace == name.namespace;
            let selected = selector.is_none_or(|selector| selects(selector, &of.meta.labels));
            reached && selected && !of.finished
        })
    }

    /// The pods that a PeerAuthentication is for: a selecting one reaches no further than its namespace.
    pub(super) fn pods_of_peer(
        &self,
        name: &'a ObjectName,
        peer: &'a PeerAuthentication,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a Pod)> + use<'a> {
        let everywhere = peer.selector.is_none();
        let pods = self.pods(name, peer.selector.as_ref());
        pods.filter(move |(pod, _)| everywhere || pod.namespace == name.namespace)
    }

    /// What agents hold of a pod; none without an address.
    pub(super) fn workload(&self, pod: &ObjectName) -> Option<&'a Arc<Workload>> {
        let snapshot = &self.offline.snapshot;
        snapshot.workload_by_name(&pod.namespace, &pod.name)
    }

    pub(super) fn is_enrolled(&self, pod: &ObjectName) -> bool {
        let workload = self.workload(pod);
        workload.is_some_and(|workload| workload.tunnel == Tunnel::Hbone)
    }

    /// What a policy may call the trust domain by.
    pub(super) fn trust_domains(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let names = std::iter::once(&self.mesh.trust_domain).chain(&self.mesh.trust_domain_alias);
        names.map(TrustDomain::as_str).chain([ALWAYS_OWN])
    }

    /// The identities of all service accounts, under every name of the trust domain.
    pub(super) fn principals(&self) -> Vec<String> {
        let of_domain = |domain: &str| {
            let principal = |(namespace, account): &(&str, &str)| {
                format!("{domain}/ns/{namespace}/sa/{account}")
            };
            self.accounts.iter().map(principal).collect::<Vec<_>>()
        };
        self.trust_domains().flat_map(of_domain).collect()
    }

    /// The target ports of the services that lead to a pod, by the port that clients dial.
    pub(super) fn service_ports(&self, pod: &ObjectName) -> BTreeMap<u16, Vec<(String, u16)>> {
        let mut ports: BTreeMap<u16, Vec<(String, u16)>> = BTreeMap::new();
        let Some(workload) = self.workload(pod) else {
            return ports;
        };
        for (key, list) in &workload.services {
            let Some(service) = self.offline.snapshot.service(key) else {
                continue;
            };
            let name = format!("{}/{}", service.namespace, service.name);
            for port in list {
                let known = ports.entry(port.service_port).or_default();
                known.push((name.clone(), port.target_port));
            }
        }
        ports
    }

    /// Notes something about a field of an object.
    pub(super) fn note(
        &mut self,
        code: Code,
        (kind, name): (&'static str, &ObjectName),
        field: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let origins = &self.offline.objects.origins;
        let origin = origins.get(&(kind, name.clone()));
        let place = origin.and_then(|origin| origin.rsplit_once(": document "));
        let (file, document) = place.unwrap_or_default();
        self.found.push(Finding {
            file: file.to_owned(),
            document: document.parse().unwrap_or_default(),
            object: format!("{kind} {name}"),
            field: field.into(),
            code,
            severity: code.severity(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    /// Notes something about the directory.
    pub(super) fn note_directory(&mut self, code: Code, what: &str, remedy: &str) {
        self.found.push(Finding {
            file: String::new(),
            document: 0,
            object: String::new(),
            field: String::new(),
            code,
            severity: code.severity(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }
}

/// In a policy this is the mesh's own trust domain, whatever it is called.
const ALWAYS_OWN: &str = "cluster.local";

pub(super) const POLICY: &str = "AuthorizationPolicy";
pub(super) const PEER: &str = "PeerAuthentication";
