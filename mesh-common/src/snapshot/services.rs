//! All services, by key and by virtual address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::claims::Claims;
use crate::workload::Service;

#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    by_key: HashMap<Arc<str>, Arc<Service>>,
    by_vip: Claims<IpAddr, Service>,
}

impl Services {
    pub(super) fn upsert(&mut self, service: Service) {
        let new = Arc::new(service);
        if let Some(old) = self.by_key.get(new.key()) {
            for vip in old.vips.iter().filter(|vip| !new.vips.contains(vip)) {
                self.by_vip.give_up(vip, old.key());
            }
        }
        for vip in &new.vips {
            self.by_vip.claim(*vip, new.key(), &new);
        }
        self.by_key.insert(new.key().clone(), new);
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(old) = self.by_key.remove(key) {
            for vip in &old.vips {
                self.by_vip.give_up(vip, key);
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Service>> {
        self.by_key.get(key)
    }

    pub(super) fn by_vip(&self, ip: IpAddr) -> Option<&Arc<Service>> {
        self.by_vip.get(&ip.to_canonical())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.values()
    }
}
