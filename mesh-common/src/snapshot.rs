//! The state of the mesh at one moment, and how changes lead to the next one.
//!
//! A [`Snapshot`] never changes; copies share what they hold. A [`SnapshotBuilder`] takes the resources of
//! the discovery protocol one by one: one that cannot be used leaves the last good one in place.

mod claims;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

use std::net::IpAddr;
use std::sync::Arc;

use crate::decode::DecodeError;
use crate::policy::{Policy, PolicyIndex, PolicySet};
use crate::proto::{security, workload as wire};
use crate::workload::{Service, Workload};
use services::Services;
use workloads::Workloads;

/// Workloads, services and policies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    workloads: Arc<Workloads>,
    services: Arc<Services>,
    policies: Arc<PolicyIndex>,
}

impl Snapshot {
    /// The workload with this uid.
    #[must_use]
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload with this name. When clusters share a name, the one that came last: where the cluster
    /// is known, [`Snapshot::workload`] is exact.
    #[must_use]
    pub fn workload_by_name(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        self.workloads.by_name(namespace, name)
    }

    /// The workload that has this address for itself; never one that shares its node's.
    #[must_use]
    pub fn workload_by_ip(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.by_ip(ip)
    }

    /// The service `namespace/hostname`.
    #[must_use]
    pub fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The service with this virtual address.
    #[must_use]
    pub fn service_by_vip(&self, ip: IpAddr) -> Option<&Arc<Service>> {
        self.services.by_vip(ip)
    }

    /// The workloads behind a service, ready or not, by uid.
    pub fn endpoints(&self, service: &Service) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.endpoints(service.key())
    }

    /// The policies that apply to a workload.
    #[must_use]
    pub fn policies_for(&self, workload: &Workload) -> PolicySet<'_> {
        self.policies.of(&workload.namespace, &workload.policies)
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// The policy `namespace/name`.
    #[must_use]
    pub fn policy(&self, key: &str) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    /// All policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }
}

/// The next snapshot in the making.
#[derive(Clone, Debug, Default)]
pub struct SnapshotBuilder(Snapshot);

impl SnapshotBuilder {
    /// Takes a workload or a service named `name`.
    ///
    /// # Errors
    /// [`DecodeError`]; the last good one of that name stays.
    pub fn upsert_address(
        &mut self,
        name: &str,
        address: wire::Address,
    ) -> Result<(), DecodeError> {
        match address.r#type {
            Some(wire::address::Type::Workload(from)) => {
                let mut workload = Workload::try_from(from)?;
                same_name("workload", name, &workload.uid)?;
                let old = self.0.workloads.get(name).map(|old| old.policies.clone());
                let policies = Arc::make_mut(&mut self.0.policies);
                workload.policies = policies.retain(&workload.policies);
                policies.release(&old.unwrap_or_default());
                Arc::make_mut(&mut self.0.workloads).upsert(workload);
            }
            Some(wire::address::Type::Service(from)) => {
                let service = Service::try_from(from)?;
                same_name("service", name, service.key())?;
                Arc::make_mut(&mut self.0.services).upsert(service);
            }
            None => {
                let why = "it is neither a workload nor a service";
                return Err(DecodeError::new(
                    format_args!("address {name:?}"),
                    "type",
                    why,
                ));
            }
        }
        Ok(())
    }

    /// Removes the workload or service named `name`, if it is there.
    pub fn remove_address(&mut self, name: &str) {
        if let Some(workload) = self.0.workloads.get(name) {
            Arc::make_mut(&mut self.0.policies).release(&workload.policies);
            Arc::make_mut(&mut self.0.workloads).remove(name);
        }
        if self.0.services.get(name).is_some() {
            Arc::make_mut(&mut self.0.services).remove(name);
        }
    }

    /// Takes a policy named `name`.
    ///
    /// # Errors
    /// [`DecodeError`]; the last good one of that name stays. When there is none, connections to which
    /// it would apply are denied until it can be read or is removed.
    pub fn upsert_policy(
        &mut self,
        name: &str,
        policy: security::Authorization,
    ) -> Result<(), DecodeError> {
        let stated = policy.clone();
        let decoded = Policy::try_from(policy)
            .and_then(|decoded| same_name("policy", name, decoded.key()).map(|()| decoded));
        match decoded {
            Ok(decoded) => {
                Arc::make_mut(&mut self.0.policies).upsert(decoded);
                Ok(())
            }
            Err(e) => {
                self.refuse_policy(name, Some(&stated));
                Err(e)
            }
        }
    }

    /// Notes that a policy named `name` was sent of which not even the encoding could be read; as for an
    /// error of [`SnapshotBuilder::upsert_policy`], the last good one stays, or else connections are denied.
    pub fn unreadable_policy(&mut self, name: &str) {
        self.refuse_policy(name, None);
    }

    fn refuse_policy(&mut self, name: &str, stated: Option<&security::Authorization>) {
        if self
            .0
            .policies
            .get(name)
            .is_none_or(|known| known.unreadable)
        {
            Arc::make_mut(&mut self.0.policies).upsert(Policy::unreadable(name, stated));
        }
    }

    /// Removes the policy named `name`, if it is there.
    pub fn remove_policy(&mut self, name: &str) {
        if self.0.policies.get(name).is_some() {
            Arc::make_mut(&mut self.0.policies).remove(name);
        }
    }

    /// The state now, with its policies compiled.
    #[must_use]
    pub fn to_snapshot(&self) -> Snapshot {
        self.0.policies.compile();
        self.0.clone()
    }
}

/// A resource that is filed under another name than its own could never be removed.
fn same_name(kind: &str, resource: &str, own: &str) -> Result<(), DecodeError> {
    if resource == own {
        return Ok(());
    }
    let why = format!("the content says it is {own:?}");
    Err(DecodeError::new(
        format_args!("{kind} {resource:?}"),
        "name",
        why,
    ))
}
