//! The objects, and by what else than their names they must be found.

mod intern;
mod pod;
mod selectors;

pub(crate) use pod::Pod;
pub(crate) use selectors::Selectors;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{self, AuthorizationPolicy, Endpoint, EndpointSlice, Namespace, Node};
use crate::model::{Labels, ObjectName, PeerAuthentication, Service};
use crate::resources::trie::Trie;
use pod::Pods;

/// A pod as it was, and as it is.
pub(crate) type PodChange = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// Everything that is compiled. Each setter returns what was there before.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) namespaces: BTreeMap<ObjectName, Namespace>,
    pub(crate) nodes: BTreeMap<ObjectName, Node>,
    pub(crate) services: BTreeMap<ObjectName, Service>,
    pub(crate) authorization_policies: BTreeMap<ObjectName, AuthorizationPolicy>,
    pub(crate) peer_authentications: BTreeMap<ObjectName, PeerAuthentication>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    slices_by_service: HashMap<ObjectName, BTreeSet<ObjectName>>,
    slices_by_address: HashMap<IpAddr, BTreeSet<ObjectName>>,
    pub(crate) origins: BTreeMap<(&'static str, ObjectName), String>,
    pods: HashMap<Arc<str>, Trie<Arc<Pod>>>,
    pods_by_node: HashMap<Arc<str>, Vec<Arc<Pod>>>,
    pods_by_address: Trie<Arc<Pod>>,
    services_by_address: HashMap<IpAddr, BTreeSet<ObjectName>>,
    /// Services by what they select.
    pub(crate) service_selectors: Selectors,
    /// AuthorizationPolicies with a selector.
    pub(crate) policy_selectors: Selectors,
    /// PeerAuthentications with a selector.
    pub(crate) peer_selectors: Selectors,
    hasher: RandomState,
    make: Pods,
}

impl Store {
    pub(crate) fn pod(&self, name: &ObjectName) -> Option<&Arc<Pod>> {
        let pods = self.pods.get(&name.namespace)?;
        pods.of(self.hasher.hash_one(&name.name))
            .find(|pod| pod.name.name == name.name)
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().flat_map(Trie::iter)
    }

    pub(crate) fn pods_of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.get(namespace).into_iter().flat_map(Trie::iter)
    }

    pub(crate) fn pods_of_node(&self, node: &str) -> &[Arc<Pod>] {
        self.pods_by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// The pods that claim an address, worst claim first.
    pub(crate) fn claimants(&self, address: IpAddr) -> Vec<&Arc<Pod>> {
        let hash = self.hasher.hash_one(address);
        let claims = |pod: &&Arc<Pod>| pod.addresses.contains(&address);
        let mut found: Vec<_> = self.pods_by_address.of(hash).filter(claims).collect();
        found.sort_by(|a, b| a.claim().cmp(&b.claim()));
        found
    }

    /// The services that claim a virtual address, worst claim first: the oldest keeps it.
    pub(crate) fn service_claimants(&self, address: IpAddr) -> Vec<&Service> {
        let names = self.services_by_address.get(&address).into_iter().flatten();
        let mut found: Vec<_> = names.filter_map(|name| self.services.get(name)).collect();
        found.sort_by_key(|service| std::cmp::Reverse(service.meta.age_order()));
        found
    }

    /// Puts a pod in, or takes it out; what was there before and what is there now, when they differ.
    pub(crate) fn set_pod(
        &mut self,
        name: &ObjectName,
        pod: Option<model::Pod>,
    ) -> Option<PodChange> {
        let after = pod.map(|pod| Arc::new(self.make.keep(pod)));
        if self.pod(name) == after.as_ref() {
            return None;
        }
        let hash = self.hasher.hash_one(&name.name);
        let same = |pod: &Arc<Pod>| pod.name == *name;
        let before = match &after {
            Some(pod) => {
                let of_namespace = Arc::clone(&pod.name.namespace);
                let pods = self.pods.entry(of_namespace).or_default();
                pods.insert(hash, Arc::clone(pod), same)
            }
            None => {
                let pods = self.pods.get_mut(&name.namespace)?;
                let before = pods.remove(hash, same);
                if pods.is_empty() {
                    self.pods.remove(&name.namespace);
                }
                before
            }
        };
        if let Some(before) = &before {
            if let Some(pods) = self.pods_by_node.get_mut(&before.node) {
                pods.retain(|pod| pod.name != *name);
                if pods.is_empty() {
                    self.pods_by_node.remove(&before.node);
                }
            }
            for address in claimed(before) {
                let hash = self.hasher.hash_one(address);
                self.pods_by_address.remove(hash, same);
            }
        }
        if let Some(after) = &after {
            if !after.node.is_empty() {
                let pods = self
                    .pods_by_node
                    .entry(Arc::clone(&after.node))
                    .or_default();
                pods.push(Arc::clone(after));
            }
            for address in claimed(after) {
                let hash = self.hasher.hash_one(address);
                self.pods_by_address.insert(hash, Arc::clone(after), same);
            }
        }
        Some((before, after))
    }

    pub(crate) fn set_service(
        &mut self,
        name: &ObjectName,
        service: Option<Service>,
    ) -> Option<Service> {
        let before = self.services.remove(name);
        if let Some(before) = &before {
            for address in &before.addresses {
                remove_from(&mut self.services_by_address, address, name);
            }
            if let Some(selector) = &before.selector {
                self.service_selectors
                    .remove(&name.namespace, selector, name);
            }
        }
        if let Some(service) = service {
            for address in &service.addresses {
                let names = self.services_by_address.entry(*address).or_default();
                names.insert(name.clone());
            }
            if let Some(selector) = &service.selector {
                self.service_selectors
                    .insert(&name.namespace, selector, name);
            }
            self.services.insert(name.clone(), service);
        }
        before
    }

    /// `scope` is where its selector reaches: its namespace, or empty for the whole mesh.
    pub(crate) fn set_authorization(
        &mut self,
        name: &ObjectName,
        scope: &str,
        policy: Option<AuthorizationPolicy>,
    ) -> Option<AuthorizationPolicy> {
        let before = self.authorization_policies.remove(name);
        let selector = |policy: &Option<AuthorizationPolicy>| -> Option<Labels> {
            policy.as_ref()?.selector.clone()
        };
        if let Some(selector) = selector(&before) {
            self.policy_selectors.remove(scope, &selector, name);
        }
        if let Some(selector) = selector(&policy) {
            self.policy_selectors.insert(scope, &selector, name);
        }
        if let Some(policy) = policy {
            self.authorization_policies.insert(name.clone(), policy);
        }
        before
    }

    pub(crate) fn set_peer(
        &mut self,
        name: &ObjectName,
        policy: Option<PeerAuthentication>,
    ) -> Option<PeerAuthentication> {
        let before = self.peer_authentications.remove(name);
        let namespace = &name.namespace;
        if let Some(selector) = before.as_ref().and_then(|p| p.selector.as_ref()) {
            self.peer_selectors.remove(namespace, selector, name);
        }
        if let Some(selector) = policy.as_ref().and_then(|p| p.selector.as_ref()) {
            self.peer_selectors.insert(namespace, selector, name);
        }
        if let Some(policy) = policy {
            self.peer_authentications.insert(name.clone(), policy);
        }
        before
    }

    pub(crate) fn set_slice(
        &mut self,
        name: &ObjectName,
        slice: Option<EndpointSlice>,
    ) -> Option<EndpointSlice> {
        let before = self.slices.remove(name);
        if let Some(before) = &before {
            remove_from(&mut self.slices_by_service, &before.service, name);
            for address in listed(before) {
                remove_from(&mut self.slices_by_address, &address, name);
            }
        }
        if let Some(slice) = slice {
            let of_service = self.slices_by_service.entry(slice.service.clone());
            of_service.or_default().insert(name.clone());
            for address in listed(&slice) {
                let of_address = self.slices_by_address.entry(address).or_default();
                of_address.insert(name.clone());
            }
            self.slices.insert(name.clone(), slice);
        }
        before
    }

    pub(crate) fn slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        self.slices.get(name)
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.values()
    }

    /// The addresses that slices list for a service.
    pub(crate) fn listed_for(&self, service: &ObjectName) -> BTreeSet<IpAddr> {
        let names = self.slices_by_service.get(service).into_iter().flatten();
        let slices = names.filter_map(|name| self.slices.get(name));
        slices.flat_map(listed).collect()
    }

    /// Where slices list an address for a service without a selector, by the name of the slice.
    pub(crate) fn listings(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (&EndpointSlice, &Endpoint, &Service)> {
        let names = self.slices_by_address.get(&address).into_iter().flatten();
        names.filter_map(move |name| {
            let slice = self.slices.get(name)?;
            let service = self.services.get(&slice.service)?;
            let is_it = |endpoint: &&Endpoint| endpoint.addresses.first() == Some(&address);
            let endpoint = slice.endpoints.iter().find(is_it)?;
            service
                .selector
                .is_none()
                .then_some((slice, endpoint, service))
        })
    }

    /// The object for a message: where it was read from, its kind and its name.
    pub(crate) fn describe(&self, kind: &'static str, name: &ObjectName) -> String {
        match self.origins.get(&(kind, name.clone())) {
            Some(origin) => format!("{origin}: {kind} {name}"),
            None => format!("{kind} {name}"),
        }
    }
}

/// The addresses that a pod claims for itself.
fn claimed(pod: &Pod) -> &[IpAddr] {
    if pod.claims() { &pod.addresses } else { &[] }
}

/// The addresses that a slice lists: the first of each endpoint stands for it.
pub(crate) fn listed(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    let first = |endpoint: &Endpoint| endpoint.addresses.first().copied();
    slice.endpoints.iter().filter_map(first)
}

fn remove_from<K: Eq + Hash>(
    index: &mut HashMap<K, BTreeSet<ObjectName>>,
    key: &K,
    name: &ObjectName,
) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
