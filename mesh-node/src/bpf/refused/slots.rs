//! Where the kernel counts what it refuses: a slot for each pod and policy.
//!
//! Whose a slot is, and how much of its count was reported, is kept in the kernel too: what is refused while
//! no agent runs is reported by the next one, once. Counts are never reset: a slot remembers where they began.

use aya::maps::{Array, Map, MapData, PerCpuArray};
use mesh_common::abi::{RefusedCount, RefusedSlot, map};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::DatapathError;
use super::super::pins::Pins;
use super::{RefusedConnection, RefusedConnections};
use crate::sys::bpf::Abi;

struct Used {
    owner: RefusedSlot,
    /// None while only an earlier agent has named it.
    policy: Option<Arc<str>>,
}

pub(super) struct Slots {
    counts: PerCpuArray<MapData, Abi<RefusedCount>>,
    owners: Array<MapData, Abi<RefusedSlot>>,
    used: BTreeMap<u32, Used>,
    /// The one that has been free for longest comes first: a program that is still running may count in it.
    free: VecDeque<u32>,
    /// Of slots that were given back.
    left: Vec<RefusedConnections>,
}

impl Slots {
    /// Opens the tables. Nothing is known until they are read.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self {
            counts: pins.typed(map::REFUSED_COUNTS, |map: Map| map.try_into())?,
            owners: pins.typed(map::REFUSED_SLOTS, |map: Map| map.try_into())?,
            used: BTreeMap::new(),
            free: VecDeque::new(),
            left: Vec::new(),
        })
    }

    /// Reads whose the slots are. Names of policies are not in there.
    pub(super) fn read(&mut self) -> Result<(), DatapathError> {
        self.used.clear();
        self.free.clear();
        for slot in 0..self.owners.len() {
            let owner = self
                .owners
                .get(&slot, 0)
                .map_err(|source| DatapathError::map(map::REFUSED_SLOTS, source))?
                .0;
            if owner.netns == 0 {
                self.free.push_back(slot);
            } else {
                let policy = None;
                self.used.insert(slot, Used { owner, policy });
            }
        }
        Ok(())
    }

    /// The slot of a pod and a policy; a new one if there is none.
    pub(super) fn of(&mut self, netns: u64, policy: &Arc<str>) -> Result<u32, DatapathError> {
        let hash = hash(policy);
        let is_it = |used: &Used| (used.owner.netns, used.owner.policy) == (netns, hash);
        if let Some((slot, used)) = self.used.iter_mut().find(|(_, used)| is_it(used)) {
            used.policy = Some(policy.clone());
            return Ok(*slot);
        }
        let full = || DatapathError::Full(map::REFUSED_SLOTS, self.owners.len());
        let slot = *self.free.front().ok_or_else(full)?;
        let owner = RefusedSlot {
            netns,
            policy: hash,
            reported: self.count(slot)?.0,
        };
        self.write(slot, owner)?;
        self.free.pop_front();
        let policy = Some(policy.clone());
        self.used.insert(slot, Used { owner, policy });
        Ok(slot)
    }

    /// Gives back the slots of a pod that are not among these.
    pub(super) fn keep(&mut self, netns: u64, kept: &BTreeSet<u32>) -> Result<(), DatapathError> {
        let of_pod =
            |(slot, used): &(&u32, &Used)| used.owner.netns == netns && !kept.contains(slot);
        let given: Vec<u32> = self
            .used
            .iter()
            .filter(of_pod)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in given {
            let refused = self.report(slot)?;
            self.left.extend(refused);
            self.write(slot, RefusedSlot::default())?;
            self.used.remove(&slot);
            self.free.push_back(slot);
        }
        Ok(())
    }

    /// The pods that have slots.
    pub(super) fn owners(&self) -> impl Iterator<Item = u64> {
        self.used.values().map(|used| used.owner.netns)
    }

    /// What was counted since the last time; without `changed`, only in slots given back since.
    pub(super) fn take(&mut self, changed: bool) -> Result<Vec<RefusedConnections>, DatapathError> {
        if changed {
            let used: Vec<u32> = self.used.keys().copied().collect();
            for slot in used {
                let refused = self.report(slot)?;
                self.left.extend(refused);
            }
        }
        Ok(std::mem::take(&mut self.left))
    }

    /// What was counted in one slot since the last time, which is from now on reported.
    fn report(&mut self, slot: u32) -> Result<Option<RefusedConnections>, DatapathError> {
        let (count, last) = self.count(slot)?;
        let Some(used) = self.used.get_mut(&slot) else {
            return Ok(None);
        };
        let new = count.wrapping_sub(used.owner.reported);
        if new == 0 {
            return Ok(None);
        }
        used.owner.reported = count;
        let (owner, policy) = (used.owner, used.policy.clone());
        self.write(slot, owner)?;
        Ok(Some(RefusedConnections {
            netns: owner.netns,
            policy,
            count: new,
            last,
        }))
    }

    fn write(&mut self, slot: u32, owner: RefusedSlot) -> Result<(), DatapathError> {
        self.owners
            .set(slot, Abi(owner), 0)
            .map_err(|source| DatapathError::map(map::REFUSED_SLOTS, source))
    }

    /// The count of all processors, and the last connection of those that say so wholly.
    fn count(&self, slot: u32) -> Result<(u64, Option<RefusedConnection>), DatapathError> {
        let counts = self
            .counts
            .get(&slot, 0)
            .map_err(|source| DatapathError::map(map::REFUSED_COUNTS, source))?;
        let sum = |sum: u64, count: &Abi<RefusedCount>| sum.wrapping_add(count.0.count);
        let total = counts.iter().fold(0, sum);
        let whole = counts
            .iter()
            .map(|count| count.0)
            .filter(|count| count.count > 0 && count.told == count.count);
        let last = whole.max_by_key(|count| count.time);
        Ok((total, last.map(connection)))
    }
}

fn connection(of: RefusedCount) -> RefusedConnection {
    RefusedConnection {
        time: Duration::from_nanos(of.time),
        source: SocketAddr::new(of.source.into(), of.source_port),
        port: of.port,
    }
}

fn hash(policy: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    policy.hash(&mut hasher);
    hasher.finish()
}
