//! Keeps what was compiled up to date: a change in, the resources that differ out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::dirty::Dirty;
use super::peer_authentication::Levels;
use super::store::{Pod, Store};
use super::warnings::{Subject, Warnings, contested};
use super::{Options, authorization, endpoint, enrolment, peer_authentication, service, workload};
use crate::model::{
    self, AuthorizationPolicy, Change, EndpointSlice, Namespace, Node, Object, ObjectName, Objects,
    PeerAuthentication, Service,
};
use crate::resources::{Identity, IdentityChanges, Resource, Step};

/// The objects, and what must be compiled of them.
#[derive(Debug)]
pub struct Compiler {
    options: Options,
    store: Store,
    levels: Levels,
    warnings: Warnings,
    /// The resource of each address that slices list and no pod has.
    endpoints: BTreeMap<IpAddr, Arc<str>>,
    dirty: Dirty,
    identities: IdentityChanges,
}

impl Compiler {
    /// Without any object.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            store: Store::default(),
            levels: Levels::default(),
            warnings: Warnings::default(),
            endpoints: BTreeMap::new(),
            dirty: Dirty::default(),
            identities: BTreeMap::new(),
        }
    }

    /// Takes changes in, in their order.
    pub fn change(&mut self, changes: Vec<Change>) -> Step {
        for change in changes {
            match change {
                Change::Set(object) => self.set(object),
                Change::Removed(kind, name) => self.remove(kind, &name),
            }
        }
        self.settle()
    }

    /// Takes these objects in place of all others.
    pub fn replace(&mut self, objects: Objects) -> Step {
        let gone = |known: Vec<ObjectName>, is_there: &dyn Fn(&ObjectName) -> bool| {
            let gone = known.into_iter().filter(|name| !is_there(name));
            gone.collect::<Vec<_>>()
        };
        let store = &self.store;
        let all = [
            (
                "Namespace",
                gone(names(&store.namespaces), &|n| {
                    objects.namespaces.contains_key(n)
                }),
            ),
            (
                "Node",
                gone(names(&store.nodes), &|n| objects.nodes.contains_key(n)),
            ),
            (
                "Service",
                gone(names(&store.services), &|n| {
                    objects.services.contains_key(n)
                }),
            ),
            (
                "EndpointSlice",
                gone(
                    store.slices().map(|s| s.meta.name.clone()).collect(),
                    &|n| objects.endpoint_slices.contains_key(n),
                ),
            ),
            (
                "AuthorizationPolicy",
                gone(names(&store.authorization_policies), &|n| {
                    objects.authorization_policies.contains_key(n)
                }),
            ),
            (
                "PeerAuthentication",
                gone(names(&store.peer_authentications), &|n| {
                    objects.peer_authentications.contains_key(n)
                }),
            ),
            (
                "Pod",
                gone(store.pods().map(|pod| pod.name.clone()).collect(), &|n| {
                    objects.pods.contains_key(n)
                }),
            ),
        ];
        for (kind, names) in all {
            for name in names {
                self.remove(kind, &name);
            }
        }
        if self.store.origins != objects.origins {
            self.store.origins = objects.origins;
            // Their warnings say where they were read.
            for subject in self.warnings.subjects() {
                match subject {
                    Subject::Policy(name) => _ = self.dirty.policies.insert(name.clone()),
                    Subject::Service(name) => _ = self.dirty.services.insert(name.clone()),
                    Subject::PodAddress(_) | Subject::ServiceAddress(_) => {}
                }
            }
        }
        for (name, namespace) in objects.namespaces {
            self.namespace(&name, Some(namespace));
        }
        for (name, node) in objects.nodes {
            self.node(&name, Some(node));
        }
        for (name, service) in objects.services {
            self.service(&name, Some(service));
        }
        for (name, slice) in objects.endpoint_slices {
            self.slice(&name, Some(slice));
        }
        for (name, policy) in objects.authorization_policies {
            self.authorization(&name, Some(policy));
        }
        for (name, policy) in objects.peer_authentications {
            self.peer(&name, Some(policy));
        }
        for (name, pod) in objects.pods {
            self.pod(&name, Some(pod));
        }
        self.settle()
    }

    /// What is not enforced as it was written.
    pub fn warnings(&self) -> BTreeSet<String> {
        self.warnings.all()
    }

    /// The same, if it is not as it was at the last call.
    pub fn take_changed_warnings(&mut self) -> Option<BTreeSet<String>> {
        self.warnings.take_changed()
    }

    fn set(&mut self, object: Object) {
        let name = object.identity().1.clone();
        match object {
            Object::Namespace(o) => self.namespace(&name, Some(o)),
            Object::Node(o) => self.node(&name, Some(o)),
            Object::ServiceAccount(_) => {}
            Object::Pod(o) => self.pod(&name, Some(*o)),
            Object::Service(o) => self.service(&name, Some(*o)),
            Object::EndpointSlice(o) => self.slice(&name, Some(*o)),
            Object::AuthorizationPolicy(o) => self.authorization(&name, Some(*o)),
            Object::PeerAuthentication(o) => self.peer(&name, Some(*o)),
        }
    }

    fn remove(&mut self, kind: &'static str, name: &ObjectName) {
        self.store.origins.remove(&(kind, name.clone()));
        match kind {
            "Namespace" => self.namespace(name, None),
            "Node" => self.node(name, None),
            "Pod" => self.pod(name, None),
            "Service" => self.service(name, None),
            "EndpointSlice" => self.slice(name, None),
            "AuthorizationPolicy" => self.authorization(name, None),
            "PeerAuthentication" => self.peer(name, None),
            _ => {}
        }
    }

    fn namespace(&mut self, name: &ObjectName, namespace: Option<Namespace>) {
        let key = &self.options.dataplane_label;
        let mode = |namespace: &Namespace| namespace.meta.labels.get(key).cloned();
        let after = namespace.as_ref().and_then(mode);
        let before = match namespace {
            Some(namespace) => self.store.namespaces.insert(name.clone(), namespace),
            None => self.store.namespaces.remove(name),
        };
        if before.as_ref().and_then(mode) != after {
            let pods = || self.store.pods_of_namespace(&name.name);
            self.dirty.pods(pods());
            let nodes = pods().map(|pod| Arc::clone(&pod.node));
            self.dirty.nodes.extend(nodes);
            self.dirty.namespaces = true;
        }
    }

    fn node(&mut self, name: &ObjectName, node: Option<Node>) {
        let locality = |node: &Option<Node>| node.as_ref().map(|node| node.locality.clone());
        let after = locality(&node);
        let before = match node {
            Some(node) => self.store.nodes.insert(name.clone(), node),
            None => self.store.nodes.remove(name),
        };
        if locality(&before) != after {
            self.dirty.pods(self.store.pods_of_node(&name.name));
            self.dirty.endpoints_of_node(&self.store, &name.name);
        }
    }

    fn pod(&mut self, name: &ObjectName, pod: Option<model::Pod>) {
        let Some((before, after)) = self.store.set_pod(name, pod) else {
            return;
        };
        for (pod, change) in [(before, -1), (after, 1)] {
            let Some(pod) = pod else { continue };
            self.dirty.pod(&pod);
            self.identity(&pod, change);
        }
    }

    fn identity(&mut self, pod: &Pod, change: i64) {
        if pod.finished || pod.node.is_empty() {
            return;
        }
        let identity = Identity {
            node: Arc::clone(&pod.node),
            namespace: Arc::clone(&pod.name.namespace),
            account: Arc::clone(&pod.service_account),
        };
        let sum = self.identities.entry(identity.clone()).or_default();
        *sum += change;
        if *sum == 0 {
            self.identities.remove(&identity);
        }
    }

    fn service(&mut self, name: &ObjectName, service: Option<Service>) {
        if self.store.services.get(name) == service.as_ref() {
            return;
        }
        let before = self.store.set_service(name, service);
        let after = self.store.services.get(name);
        let reach = |service: &Service| (service.selector.clone(), service.ports.clone());
        let changed = before.as_ref().map(reach) != after.map(reach);
        for service in before.iter().chain(after) {
            self.dirty.service(&self.store, service, changed);
        }
    }

    fn slice(&mut self, name: &ObjectName, slice: Option<EndpointSlice>) {
        if self.store.slice(name) == slice.as_ref() {
            return;
        }
        let before = self.store.set_slice(name, slice);
        for slice in before.iter().chain(self.store.slice(name)) {
            self.dirty.slice(slice);
        }
    }

    fn authorization(&mut self, name: &ObjectName, policy: Option<AuthorizationPolicy>) {
        let store = &mut self.store;
        if store.authorization_policies.get(name) == policy.as_ref() {
            return;
        }
        let namespace = authorization::reach(name, &self.options);
        let before = store.set_authorization(name, namespace.unwrap_or_default(), policy);
        self.dirty.policies.insert(name.clone());
        let after = store.authorization_policies.get(name);
        let (before, after) = (
            before.as_ref().and_then(authorization::listed_by),
            after.and_then(authorization::listed_by),
        );
        if before != after {
            for selector in before.into_iter().chain(after) {
                self.dirty.selected(store, namespace, selector);
            }
        }
    }

    fn peer(&mut self, name: &ObjectName, policy: Option<PeerAuthentication>) {
        let store = &mut self.store;
        if store.peer_authentications.get(name) == policy.as_ref() {
            return;
        }
        let before = store.set_peer(name, policy);
        self.dirty.peers.insert(name.clone());
        self.dirty.levels = true;
        let after = store.peer_authentications.get(name);
        for policy in before.iter().chain(after) {
            if let Some(selector) = &policy.selector {
                self.dirty.selected(store, Some(&name.namespace), selector);
            }
        }
    }

    /// Compiles what is marked.
    fn settle(&mut self) -> Step {
        let mut step = Step {
            identities: std::mem::take(&mut self.identities),
            ..Step::default()
        };
        if std::mem::take(&mut self.dirty.levels) {
            let levels = Levels::new(&self.store, &self.options);
            let before = std::mem::replace(&mut self.levels, levels);
            self.levels
                .mark_changes(&before, &self.store, &mut self.dirty);
            let (name, policy) = peer_authentication::strict(&self.store, &self.options);
            step.policies.insert(name, policy);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.spread(&self.store);
        let (store, options) = (&self.store, &self.options);
        let mut put = |name: Arc<str>, resource: Option<Resource>| {
            step.addresses.insert(name, resource);
        };
        for name in &dirty.services {
            let (key, resource, warnings) = service::compile(name, store);
            self.warnings.set(Subject::Service(name.clone()), warnings);
            put(key, resource);
        }
        for name in &dirty.pods {
            let (uid, resource) = workload::compile(name, store, options, &self.levels);
            put(uid, resource);
        }
        for address in &dirty.endpoints {
            let resource = endpoint::compile(*address, store, options);
            let name = resource.as_ref().map(|resource| Arc::clone(&resource.name));
            let before = match &name {
                Some(name) => self.endpoints.insert(*address, Arc::clone(name)),
                None => self.endpoints.remove(address),
            };
            if let Some(before) = before {
                put(before, None);
            }
            if let Some(name) = name {
                put(name, resource);
            }
        }
        for address in &dirty.pod_addresses {
            let claimants = store.claimants(*address);
            let lines = contested("Pod", *address, claimants.iter().map(|pod| &pod.name));
            self.warnings.set(Subject::PodAddress(*address), lines);
        }
        for address in &dirty.service_addresses {
            let claimants = store.service_claimants(*address);
            let names = claimants.iter().map(|service| &service.meta.name);
            let lines = contested("Service", *address, names);
            self.warnings.set(Subject::ServiceAddress(*address), lines);
        }
        for node in dirty.nodes.iter().filter(|node| !node.is_empty()) {
            let (name, pods) = enrolment::of_node(node, store, options);
            step.enrolments.insert(name, pods);
        }
        if dirty.namespaces {
            let (name, namespaces) = enrolment::of_namespaces(store, options);
            step.enrolments.insert(name, namespaces);
        }
        for name in &dirty.policies {
            let (key, policy, warnings) = authorization::compile(name, store, options);
            self.warnings.set(Subject::Policy(name.clone()), warnings);
            step.policies.insert(key, policy);
        }
        for name in &dirty.peers {
            let (key, policy) = peer_authentication::compile(name, store, &self.levels);
            step.policies.insert(key, policy);
        }
        step
    }
}

fn names<T>(map: &BTreeMap<ObjectName, T>) -> Vec<ObjectName> {
    map.keys().cloned().collect()
}
