//! What matters of the objects that agents list.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_common::identity::SpiffeId;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::meshctl::lists::{Listed, Named};

/// A port of a service and where it leads.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Port {
    pub(super) service_port: u16,
    pub(super) target_port: u16,
}

/// A workload.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Workload {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) workload_name: String,
    pub(super) workload_type: String,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) tunnel: String,
    pub(super) healthy: bool,
    pub(super) services: BTreeMap<String, Vec<Port>>,
    pub(super) policies: Vec<String>,
    pub(super) identity: SpiffeId,
}

impl Named for Workload {
    fn namespaces(&self) -> Vec<&str> {
        vec![&self.namespace]
    }

    fn names(&self) -> Vec<&str> {
        vec![&self.name]
    }
}

impl Listed for Workload {
    fn key(&self) -> String {
        // A name within a namespace comes before the kinds of objects that it could be the name of.
        format!("{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Balancing {
    pub(super) mode: String,
    pub(super) scopes: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) hostname: String,
    pub(super) vips: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
    pub(super) load_balancing: Balancing,
    pub(super) waypoint: bool,
}

impl Named for Service {
    fn namespaces(&self) -> Vec<&str> {
        vec![&self.namespace]
    }

    fn names(&self) -> Vec<&str> {
        vec![&self.name, &self.hostname]
    }
}

impl Listed for Service {
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.hostname)
    }
}

/// An authorization policy.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) scope: String,
    pub(super) action: String,
    pub(super) rules: Vec<IgnoredAny>,
    pub(super) dry_run: bool,
    pub(super) unreadable: bool,
}

impl Policy {
    /// Whether it applies to the workload.
    pub(super) fn selects(&self, workload: &Workload) -> bool {
        match self.scope.as_str() {
            "global" => true,
            "namespace" => self.namespace == workload.namespace,
            _ => workload.policies.contains(&self.key()),
        }
    }
}

impl Named for Policy {
    fn namespaces(&self) -> Vec<&str> {
        vec![&self.namespace]
    }

    fn names(&self) -> Vec<&str> {
        vec![&self.name]
    }
}

impl Listed for Policy {
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A pod that an agent serves.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) namespace: String,
}
