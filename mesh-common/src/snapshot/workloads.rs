//! All workloads, by each of the ways they are looked up.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::claims::Claims;
use crate::workload::Workload;

#[derive(Clone, Debug, Default)]
pub(super) struct Workloads {
    by_uid: HashMap<Arc<str>, Arc<Workload>>,
    /// By namespace, then name.
    by_name: HashMap<Arc<str>, Claims<Arc<str>, Workload>>,
    by_ip: Claims<IpAddr, Workload>,
    /// By the service's key, then uid.
    endpoints: HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<Workload>>>,
}

/// Addresses that lead to this workload and to no other.
fn own_addresses(workload: &Workload) -> &[IpAddr] {
    if workload.host_network {
        &[]
    } else {
        &workload.addresses
    }
}

impl Workloads {
    pub(super) fn upsert(&mut self, workload: Workload) {
        let new = Arc::new(workload);
        let uid = &new.uid;
        if let Some(old) = self.by_uid.get(uid).cloned() {
            self.forget(&old, Some(&new));
        }
        let names = self.by_name.entry(new.namespace.clone()).or_default();
        names.claim(new.name.clone(), uid, &new);
        for ip in own_addresses(&new) {
            self.by_ip.claim(*ip, uid, &new);
        }
        for service in new.services.keys() {
            let endpoints = self.endpoints.entry(service.clone()).or_default();
            endpoints.insert(uid.clone(), new.clone());
        }
        self.by_uid.insert(uid.clone(), new);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(old) = self.by_uid.remove(uid) {
            self.forget(&old, None);
        }
    }

    /// Drops what led to `old` and does not lead to `new`, its successor of the same uid.
    fn forget(&mut self, old: &Workload, new: Option<&Workload>) {
        let renamed = |new: &Workload| new.namespace != old.namespace || new.name != old.name;
        if new.is_none_or(renamed)
            && let Some(names) = self.by_name.get_mut(&old.namespace)
        {
            names.give_up(&old.name, &old.uid);
            if names.is_empty() {
                self.by_name.remove(&old.namespace);
            }
        }
        for ip in own_addresses(old) {
            if new.is_none_or(|new| !own_addresses(new).contains(ip)) {
                self.by_ip.give_up(ip, &old.uid);
            }
        }
        for service in old.services.keys() {
            if new.is_none_or(|new| !new.services.contains_key(service))
                && let Some(endpoints) = self.endpoints.get_mut(service)
            {
                endpoints.remove(&old.uid);
                if endpoints.is_empty() {
                    self.endpoints.remove(service);
                }
            }
        }
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    pub(super) fn by_name(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        self.by_name.get(namespace)?.get(name)
    }

    pub(super) fn by_ip(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.by_ip.get(&ip.to_canonical())
    }

    pub(super) fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Workload>> {
        self.endpoints
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }
}
