//! What must be compiled again, by name: marked by each change, from what depends on what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::store::{Pod, Store, listed};
use crate::model::{Labels, ObjectName, Service};

#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) pods: BTreeSet<ObjectName>,
    /// Nodes on which the pods are others, or in the mesh otherwise.
    pub(super) nodes: BTreeSet<Arc<str>>,
    /// The namespaces that are in the mesh are others.
    pub(super) namespaces: bool,
    pub(super) services: BTreeSet<ObjectName>,
    pub(super) policies: BTreeSet<ObjectName>,
    pub(super) peers: BTreeSet<ObjectName>,
    /// Addresses that pods claimed, or no longer claim.
    pub(super) pod_addresses: BTreeSet<IpAddr>,
    /// Virtual addresses that services claimed, or no longer claim.
    pub(super) service_addresses: BTreeSet<IpAddr>,
    /// Addresses that slices list, or no longer list.
    pub(super) endpoints: BTreeSet<IpAddr>,
    /// A PeerAuthentication came, changed or went.
    pub(super) levels: bool,
}

impl Dirty {
    /// A pod as it was, or as it is.
    pub(super) fn pod(&mut self, pod: &Pod) {
        self.pods.insert(pod.name.clone());
        self.nodes.insert(Arc::clone(&pod.node));
        if pod.claims() {
            self.pod_addresses.extend(&pod.addresses);
        }
    }

    pub(super) fn pods<'a>(&mut self, pods: impl IntoIterator<Item = &'a Arc<Pod>>) {
        let names = pods.into_iter().map(|pod| pod.name.clone());
        self.pods.extend(names);
    }

    /// The pods that a selector is for; of every namespace when `namespace` is `None`.
    pub(super) fn selected(&mut self, store: &Store, namespace: Option<&str>, selector: &Labels) {
        let is_for = |pod: &&Arc<Pod>| pod.is_selected(selector);
        match namespace {
            Some(namespace) => self.pods(store.pods_of_namespace(namespace).filter(is_for)),
            None => self.pods(store.pods().filter(is_for)),
        }
    }

    /// A service as it was or as it is; `reach` when another set of endpoints, or other ports of them,
    /// may come of it.
    pub(super) fn service(&mut self, store: &Store, service: &Service, reach: bool) {
        let name = &service.meta.name;
        self.services.insert(name.clone());
        self.service_addresses.extend(&service.addresses);
        if !reach {
            return;
        }
        match &service.selector {
            Some(selector) => self.selected(store, Some(&name.namespace), selector),
            None => self.endpoints.extend(store.listed_for(name)),
        }
    }

    /// What a change of these addresses means for those who share them.
    pub(super) fn spread(&mut self, store: &Store) {
        for address in &self.service_addresses {
            let claimants = store.service_claimants(*address);
            let names = claimants.iter().map(|service| service.meta.name.clone());
            self.services.extend(names);
        }
        // Whoever has the address is the endpoint: a pod, or nobody.
        let addresses = self.endpoints.iter().chain(&self.pod_addresses);
        for address in addresses {
            let names = store.claimants(*address);
            self.pods.extend(names.iter().map(|pod| pod.name.clone()));
        }
        let listed = |address: &&IpAddr| store.listings(**address).next().is_some();
        let listed = self.pod_addresses.iter().filter(listed);
        self.endpoints.extend(listed);
    }

    /// The endpoints that slices place on a node.
    pub(super) fn endpoints_of_node(&mut self, store: &Store, node: &str) {
        let there = store.slices().flat_map(|slice| &slice.endpoints);
        let there = there.filter(|endpoint| *endpoint.node == *node);
        let addresses = there.filter_map(|endpoint| endpoint.addresses.first());
        self.endpoints.extend(addresses);
    }

    /// A slice as it was, or as it is.
    pub(super) fn slice(&mut self, slice: &crate::model::EndpointSlice) {
        self.endpoints.extend(listed(slice));
    }
}
