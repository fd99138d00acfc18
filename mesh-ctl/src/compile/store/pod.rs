//! A pod as it is kept: what many pods have in common is held once.

use std::net::IpAddr;
use std::sync::Arc;

use super::intern::Interner;
use crate::model::{self, Labels, ObjectName};

/// Labels of a pod, sorted.
pub(crate) type LabelSet = [(Arc<str>, Arc<str>)];

/// As [`model::Pod`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: ObjectName,
    pub(crate) uid: Box<str>,
    pub(crate) labels: Arc<LabelSet>,
    pub(crate) created: Option<i64>,
    pub(crate) service_account: Arc<str>,
    pub(crate) node: Arc<str>,
    pub(crate) host_network: bool,
    pub(crate) addresses: Box<[IpAddr]>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) finished: bool,
    /// Kind and name.
    pub(crate) owner: Option<(Arc<str>, Arc<str>)>,
    pub(crate) ports: Arc<[(Arc<str>, u16)]>,
}

impl Pod {
    /// Runs and has an address: it is a workload.
    pub(crate) fn is_live(&self) -> bool {
        !self.finished && !self.addresses.is_empty()
    }

    /// Whether its addresses are its own.
    pub(crate) fn claims(&self) -> bool {
        self.is_live() && !self.host_network
    }

    /// Who keeps a contested address: the greatest. A pod on its way out gives it up, then the oldest:
    /// a reused address belongs to its new pod.
    pub(crate) fn claim(&self) -> (bool, Option<i64>, &ObjectName) {
        (!self.terminating, self.created, &self.name)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        let at = self.ports.binary_search_by(|(k, _)| (**k).cmp(name)).ok()?;
        Some(self.ports[at].1)
    }

    /// True when it has every label of the selector.
    pub(crate) fn is_selected(&self, selector: &Labels) -> bool {
        let has = |(key, value): (&String, &String)| self.label(key) == Some(value);
        selector.iter().all(has)
    }
}

/// Makes pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    names: Interner<str>,
    labels: Interner<LabelSet>,
    ports: Interner<[(Arc<str>, u16)]>,
}

impl Pods {
    pub(super) fn keep(&mut self, pod: model::Pod) -> Pod {
        let names = &mut self.names;
        // Sorted, as they come out of a map.
        let labels = pod.meta.labels.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| (names.get(key.as_str()), names.get(value.as_str())))
            .collect();
        let ports = pod.ports.iter();
        let ports: Vec<_> = ports
            .map(|(name, port)| (names.get(name.as_str()), *port))
            .collect();
        Pod {
            name: ObjectName {
                namespace: names.get(&*pod.meta.name.namespace),
                name: pod.meta.name.name,
            },
            uid: pod.uid.into(),
            created: pod.meta.created,
            service_account: names.get(&*pod.service_account),
            node: names.get(&*pod.node),
            host_network: pod.host_network,
            addresses: pod.addresses.into(),
            ready: pod.ready,
            terminating: pod.terminating,
            finished: pod.finished,
            owner: pod
                .owner
                .map(|owner| (names.get(&*owner.kind), names.get(&*owner.name))),
            labels: self.labels.get(labels),
            ports: self.ports.get(ports),
        }
    }
}
