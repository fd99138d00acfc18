//! The object store: everything that one consistent read of a source found.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AuthorizationPolicy, EndpointSlice, Namespace, Node, ObjectName, PeerAuthentication, Pod,
    Service,
};

/// One object of a kind that Weft uses.
#[derive(Clone, Debug)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A node.
    Node(Node),
    /// A service account: only its name matters.
    ServiceAccount(ObjectName),
    /// A pod.
    Pod(Box<Pod>),
    /// A service.
    Service(Box<Service>),
    /// Endpoints of a service.
    EndpointSlice(Box<EndpointSlice>),
    /// An L4 policy.
    AuthorizationPolicy(Box<AuthorizationPolicy>),
    /// Which traffic must be mutual TLS.
    PeerAuthentication(Box<PeerAuthentication>),
}

impl Object {
    /// Kind and name.
    pub fn identity(&self) -> (&'static str, &ObjectName) {
        match self {
            Self::Namespace(o) => ("Namespace", &o.meta.name),
            Self::Node(o) => ("Node", &o.meta.name),
            Self::ServiceAccount(name) => ("ServiceAccount", name),
            Self::Pod(o) => ("Pod", &o.meta.name),
            Self::Service(o) => ("Service", &o.meta.name),
            Self::EndpointSlice(o) => ("EndpointSlice", &o.meta.name),
            Self::AuthorizationPolicy(o) => ("AuthorizationPolicy", &o.meta.name),
            Self::PeerAuthentication(o) => ("PeerAuthentication", &o.meta.name),
        }
    }
}

/// One object came, changed or went.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is there now, like this.
    Set(Object),
    /// It is gone: its kind, as [`Object::identity`] gives it, and its name.
    Removed(&'static str, ObjectName),
}

/// All objects of one read, by name. Two of one kind never share a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Namespaces.
    pub namespaces: BTreeMap<ObjectName, Namespace>,
    /// Nodes.
    pub nodes: BTreeMap<ObjectName, Node>,
    /// Service accounts.
    pub service_accounts: BTreeSet<ObjectName>,
    /// Pods.
    pub pods: BTreeMap<ObjectName, Pod>,
    /// Services.
    pub services: BTreeMap<ObjectName, Service>,
    /// Endpoints that are listed, not selected.
    pub endpoint_slices: BTreeMap<ObjectName, EndpointSlice>,
    /// L4 policies.
    pub authorization_policies: BTreeMap<ObjectName, AuthorizationPolicy>,
    /// Mutual TLS modes.
    pub peer_authentications: BTreeMap<ObjectName, PeerAuthentication>,
    /// Where an object of a kind was read from, for messages; empty when its source has no files.
    pub origins: BTreeMap<(&'static str, ObjectName), String>,
}

impl Objects {
    /// Adds an object, or replaces the one of its name.
    pub fn insert(&mut self, object: Object) {
        let name = object.identity().1.clone();
        match object {
            Object::Namespace(o) => _ = self.namespaces.insert(name, o),
            Object::Node(o) => _ = self.nodes.insert(name, o),
            Object::ServiceAccount(_) => _ = self.service_accounts.insert(name),
            Object::Pod(o) => _ = self.pods.insert(name, *o),
            Object::Service(o) => _ = self.services.insert(name, *o),
            Object::EndpointSlice(o) => _ = self.endpoint_slices.insert(name, *o),
            Object::AuthorizationPolicy(o) => _ = self.authorization_policies.insert(name, *o),
            Object::PeerAuthentication(o) => _ = self.peer_authentications.insert(name, *o),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub fn remove(&mut self, kind: &'static str, name: &ObjectName) {
        match kind {
            "Namespace" => _ = self.namespaces.remove(name),
            "Node" => _ = self.nodes.remove(name),
            "ServiceAccount" => _ = self.service_accounts.remove(name),
            "Pod" => _ = self.pods.remove(name),
            "Service" => _ = self.services.remove(name),
            "EndpointSlice" => _ = self.endpoint_slices.remove(name),
            "AuthorizationPolicy" => _ = self.authorization_policies.remove(name),
            "PeerAuthentication" => _ = self.peer_authentications.remove(name),
            _ => {}
        }
        self.origins.remove(&(kind, name.clone()));
    }

    /// Takes changes in, in their order.
    pub fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Set(object) => self.insert(object),
                Change::Removed(kind, name) => self.remove(kind, &name),
            }
        }
    }

    /// The object for a message: where it was read from, its kind and its name.
    pub fn describe(&self, kind: &'static str, name: &ObjectName) -> String {
        match self.origins.get(&(kind, name.clone())) {
            Some(origin) => format!("{origin}: {kind} {name}"),
            None => format!("{kind} {name}"),
        }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.namespaces.len()
            + self.nodes.len()
            + self.service_accounts.len()
            + self.pods.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.authorization_policies.len()
            + self.peer_authentications.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
