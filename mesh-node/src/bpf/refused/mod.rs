//! Which connections in the clear the kernel refuses by itself, by pod and port.
//!
//! A pod's entries are changed in an order in which each port is, at every moment, as before or as
//! after. When there is no room for a pod's entries it has none: its connections are the agent's to judge.

mod slots;

use aya::maps::{HashMap, Map, MapData};
use mesh_common::abi::{Counter, NOT_REFUSED, RefusedKey, map};
use std::collections::{BTreeMap, BTreeSet, HashMap as Table};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Datapath;
use super::error::DatapathError;
use super::pins::Pins;
use super::pods::{absent_is_fine, refused};
use crate::sys::bpf::Abi;
use slots::Slots;

/// Exceptions that one pod can have; with more it has no entries.
const MAX_EXCEPTIONS: usize = 64;

/// Room in the table, for so many pods.
pub(super) fn entries(max_pods: u32) -> u32 {
    max_pods.saturating_mul(8).max(256)
}

/// Slots, for so many pods.
pub(super) fn slots(max_pods: u32) -> u32 {
    max_pods.saturating_mul(2).max(64)
}

/// The ports of a pod at which connections in the clear are refused, with the names of the policies that do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedPorts {
    /// For every port that is not among the exceptions.
    pub others: Option<Arc<str>>,
    /// For single ports; none: judged by the agent.
    pub exceptions: BTreeMap<u16, Option<Arc<str>>>,
}

/// Connections that the kernel has refused on behalf of one pod and policy.
#[derive(Clone, Debug)]
pub struct RefusedConnections {
    /// Namespace cookie of the pod.
    pub netns: u64,
    /// Name of the policy; none when it is one that only an earlier agent knew.
    pub policy: Option<Arc<str>>,
    /// How many since they were last taken.
    pub count: u64,
    /// The last of them, if it is known.
    pub last: Option<RefusedConnection>,
}

/// One connection that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedConnection {
    /// When, since boot.
    pub time: Duration,
    /// Where it came from.
    pub source: SocketAddr,
    /// The port it went to.
    pub port: u16,
}

/// The entries of one pod: a slot or [`NOT_REFUSED`] for single ports, and for all others (none).
type Entries = BTreeMap<Option<u16>, u32>;

fn key(netns: u64, port: Option<u16>) -> Abi<RefusedKey> {
    Abi(match port {
        Some(port) => RefusedKey::port(netns, port),
        None => RefusedKey::others(netns),
    })
}

/// The kernel's table, and who is counted where.
pub(super) struct Refused {
    table: HashMap<MapData, Abi<RefusedKey>, u32>,
    capacity: u32,
    slots: Slots,
    /// What the table holds.
    held: Table<u64, Entries>,
    /// All that were refused, when they were last taken.
    total: u64,
    /// This agent has changed something: nobody else does from then on.
    is_ours: bool,
}

impl Refused {
    /// Opens the table, with what an earlier agent left in it.
    pub(super) fn open(pins: &Pins, max_pods: u32) -> Result<Self, DatapathError> {
        let mut refused = Self {
            table: pins.typed(map::REFUSED, |map: Map| map.try_into())?,
            capacity: entries(max_pods),
            slots: Slots::open(pins)?,
            held: Table::new(),
            total: 0,
            is_ours: false,
        };
        refused.read()?;
        Ok(refused)
    }

    /// Reads what there is. An earlier agent may go on with it until this one takes up its first pod.
    fn read(&mut self) -> Result<(), DatapathError> {
        self.slots.read()?;
        self.held.clear();
        for entry in &self.table {
            let (Abi(key), slot) =
                entry.map_err(|source| DatapathError::map(map::REFUSED, source))?;
            let port = (key.others == 0).then_some(key.port);
            self.held.entry(key.netns).or_default().insert(port, slot);
        }
        Ok(())
    }

    /// Makes the pod's entries say `wanted`.
    pub(super) fn set(&mut self, netns: u64, wanted: &RefusedPorts) -> Result<(), DatapathError> {
        if !self.is_ours {
            self.read()?;
            self.is_ours = true;
        }
        let result = self.replace(netns, wanted);
        if result.is_err() {
            self.clear(netns)?;
        }
        self.release_unused(netns)?;
        result
    }

    fn replace(&mut self, netns: u64, wanted: &RefusedPorts) -> Result<(), DatapathError> {
        if wanted.exceptions.len() > MAX_EXCEPTIONS {
            return Err(DatapathError::Full(map::REFUSED, MAX_EXCEPTIONS as u32));
        }
        let mut slot = |policy: &Arc<str>| self.slots.of(netns, policy);
        let mut next = Entries::new();
        for (port, policy) in &wanted.exceptions {
            let slot = policy.as_ref().map_or(Ok(NOT_REFUSED), &mut slot)?;
            next.insert(Some(*port), slot);
        }
        if let Some(policy) = &wanted.others {
            next.insert(None, slot(policy)?);
        }
        let before = self.held.get(&netns).cloned().unwrap_or_default();
        // First what holds for single ports, then for all others; taken back in the opposite order.
        for (port, slot) in next.iter().rev() {
            if before.get(port) != Some(slot) {
                self.insert(netns, *port, *slot)?;
            }
        }
        for port in before.keys().filter(|port| !next.contains_key(port)) {
            self.remove(netns, *port)?;
        }
        Ok(())
    }

    fn insert(&mut self, netns: u64, port: Option<u16>, slot: u32) -> Result<(), DatapathError> {
        self.table
            .insert(key(netns, port), slot, 0)
            .map_err(|e| refused(map::REFUSED, self.capacity, e))?;
        self.held.entry(netns).or_default().insert(port, slot);
        Ok(())
    }

    fn remove(&mut self, netns: u64, port: Option<u16>) -> Result<(), DatapathError> {
        absent_is_fine(map::REFUSED, self.table.remove(&key(netns, port)))?;
        if let Some(entries) = self.held.get_mut(&netns) {
            entries.remove(&port);
            if entries.is_empty() {
                self.held.remove(&netns);
            }
        }
        Ok(())
    }

    /// Removes the pod's entries: that for all others first, or what is excepted from it would be refused.
    fn clear(&mut self, netns: u64) -> Result<(), DatapathError> {
        let ports: Vec<_> = self
            .held
            .get(&netns)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .copied()
            .collect();
        ports
            .into_iter()
            .try_for_each(|port| self.remove(netns, port))
    }

    fn release_unused(&mut self, netns: u64) -> Result<(), DatapathError> {
        let held = self.held.get(&netns);
        let used: BTreeSet<u32> = held
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        self.slots.keep(netns, &used)
    }

    /// Removes whatever there is of a pod. What was counted for it can still be taken.
    pub(super) fn forget(&mut self, netns: u64) -> Result<(), DatapathError> {
        self.clear(netns)?;
        self.release_unused(netns)
    }

    /// Removes whatever there is of pods that are not among these.
    pub(super) fn forget_others(&mut self, enrolled: &[u64]) -> Result<(), DatapathError> {
        let known: BTreeSet<u64> = self
            .held
            .keys()
            .copied()
            .chain(self.slots.owners())
            .collect();
        known
            .into_iter()
            .filter(|netns| !enrolled.contains(netns))
            .try_for_each(|netns| self.forget(netns))
    }

    /// What was refused since the last time. `total` is the kernel's own sum: while that stays, nothing was.
    fn take(&mut self, total: u64) -> Result<Vec<RefusedConnections>, DatapathError> {
        let changed = total != self.total;
        let taken = self.slots.take(changed)?;
        self.total = total;
        Ok(taken)
    }
}

impl Datapath {
    /// Has the kernel refuse these connections in the clear to an enrolled pod, and no others; false when
    /// it is not enrolled.
    ///
    /// # Errors
    /// The table is full, or the kernel refuses: no connection to the pod is then refused this way.
    pub fn refuse(&self, netns: u64, ports: &RefusedPorts) -> Result<bool, DatapathError> {
        let mut pods = self.pods();
        if !pods.is_enrolled(netns)? {
            return Ok(false);
        }
        pods.refused.set(netns, ports)?;
        Ok(true)
    }

    /// Has the kernel refuse no connection this way.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn refuse_none(&self) -> Result<(), DatapathError> {
        self.pods().refused.forget_others(&[])
    }

    /// What the kernel has refused since this was last asked, by this agent or an earlier one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_refused(&self) -> Result<Vec<RefusedConnections>, DatapathError> {
        let total = self.counter(Counter::LookupPolicy)?;
        self.pods().refused.take(total)
    }
}
