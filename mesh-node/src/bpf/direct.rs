//! The same-node fast path in the kernel: which connects are exempted, and what is told of them.
//!
//! An exemption exists only between two enrolled pods, under the lock that guards the table of pods:
//! un-enrolling one of them ends it before anything else. None holds without a lease that the agent renews.

use aya::maps::{Array, HashMap, Map, MapData, RingBuf};
use mesh_common::abi::{Address, Counter, DirectEvent, DirectKey, Exemption, map};
use rustix::time::{ClockId, clock_gettime};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::PoisonError;
use std::time::Duration;

use super::Datapath;
use super::error::DatapathError;
use super::pins::Pins;
use super::pods::{absent_is_fine, refused};
use crate::sys::bpf::Abi;

/// Exemptions that there can be at once.
pub const MAX_EXEMPTIONS: u32 = 4096;
/// Room for events that wait for the agent, bytes.
pub(super) const RING_BYTES: u32 = 1 << 20;

/// A destination that a pod is exempted for.
#[derive(Clone, Copy, Debug)]
pub struct DirectRoute {
    /// Namespace cookie of the connecting pod.
    pub client: u64,
    /// Its address.
    pub source: IpAddr,
    /// Namespace cookie of the pod that is connected to.
    pub server: u64,
    /// Its address, and the port.
    pub destination: SocketAddr,
}

impl DirectRoute {
    fn key(&self) -> Abi<DirectKey> {
        let to = self.destination;
        Abi(DirectKey::new(self.client, to.ip().into(), to.port()))
    }
}

/// The kernel's table of exemptions.
pub(super) struct Exemptions(HashMap<MapData, Abi<DirectKey>, Abi<Exemption>>);

impl Exemptions {
    /// Opens the table, and removes what an earlier agent left in it.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let mut exemptions = Self(pins.typed(map::DIRECT, |map: Map| map.try_into())?);
        exemptions.remove_if(|_, _| true)?;
        Ok(exemptions)
    }

    /// Removes every exemption from or to the pod with this namespace cookie.
    pub(super) fn forget(&mut self, cookie: u64) -> Result<(), DatapathError> {
        self.remove_if(|key, exemption| key.source == cookie || exemption.destination == cookie)
    }

    fn insert(&mut self, route: &DirectRoute) -> Result<(), DatapathError> {
        let exemption = Exemption {
            destination: route.server,
            source: Address::from(route.source),
        };
        self.0
            .insert(route.key(), Abi(exemption), 0)
            .map_err(|e| refused(map::DIRECT, MAX_EXEMPTIONS, e))
    }

    fn remove(&mut self, key: &Abi<DirectKey>) -> Result<(), DatapathError> {
        absent_is_fine(map::DIRECT, self.0.remove(key))
    }

    fn remove_if(
        &mut self,
        select: impl Fn(&DirectKey, &Exemption) -> bool,
    ) -> Result<(), DatapathError> {
        let entries = self.0.iter().collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|source| DatapathError::map(map::DIRECT, source))?;
        entries
            .iter()
            .filter(|(key, exemption)| select(&key.0, &exemption.0))
            .try_for_each(|(key, _)| self.remove(key))
    }
}

/// Until when exemptions hold.
pub(super) struct Lease(Array<MapData, u64>);

impl Lease {
    /// Opens the lease, which is over until it is renewed.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let mut lease = Self(pins.typed(map::LEASE, |map: Map| map.try_into())?);
        lease.set(0)?;
        Ok(lease)
    }

    fn set(&mut self, until: u64) -> Result<(), DatapathError> {
        self.0
            .set(0, until, 0)
            .map_err(|source| DatapathError::map(map::LEASE, source))
    }
}

/// What happens to direct connections, told by the kernel in the order in which it happens. What there
/// was no room for is counted as `event_lost`.
pub struct DirectEvents(RingBuf<MapData>);

impl DirectEvents {
    /// The next event, if there is one.
    #[expect(
        clippy::should_implement_trait,
        reason = "events that come later follow a none"
    )]
    pub fn next(&mut self) -> Option<DirectEvent> {
        while let Some(item) = self.0.next() {
            if let Some(event) = Abi::<DirectEvent>::from_bytes(&item) {
                return Some(event);
            }
        }
        None
    }
}

impl AsFd for DirectEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The map in which the kernel marks the sockets of direct connections.
#[derive(Debug)]
pub struct DirectMarks(MapData);

impl AsFd for DirectMarks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }
}

impl Datapath {
    /// Exempts a pod's connects to one destination from the tunnel; false when one of the two pods is
    /// not enrolled. They go on through the tunnel until a lease is given.
    ///
    /// # Errors
    /// The table is full, or the kernel refuses.
    pub fn exempt(&self, route: &DirectRoute) -> Result<bool, DatapathError> {
        let mut pods = self.pods();
        if !pods.is_enrolled(route.client)? || !pods.is_enrolled(route.server)? {
            return Ok(false);
        }
        pods.exemptions.insert(route)?;
        Ok(true)
    }

    /// Ends an exemption: connects whose first packet has not left are refused or go through the tunnel.
    /// That there is none is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_exemption(&self, route: &DirectRoute) -> Result<(), DatapathError> {
        self.pods().exemptions.remove(&route.key())
    }

    /// Lets exemptions hold for so long from now; for no time at all, ends them at once.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lease_exemptions(&self, time: Duration) -> Result<(), DatapathError> {
        let until = if time.is_zero() {
            0
        } else {
            let until = since_boot().saturating_add(time);
            u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)
        };
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.set(until)
    }

    /// The events of direct connections, those included that came while no agent ran. There must be
    /// only one reader.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn direct_events(&self) -> Result<DirectEvents, DatapathError> {
        let ring = self
            .pins
            .typed(map::DIRECT_EVENTS, |map: Map| map.try_into())?;
        Ok(DirectEvents(ring))
    }

    /// The map that marks the sockets of direct connections.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn direct_marks(&self) -> Result<DirectMarks, DatapathError> {
        Ok(DirectMarks(self.pins.data(map::DIRECT_SOCKETS)?))
    }

    /// How many events of direct connections found no room since the programs were pinned.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lost_events(&self) -> Result<u64, DatapathError> {
        self.counter(Counter::SockOpsEventLost)
    }

    /// Whether there was ever a direct connection since the programs were pinned.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn was_direct(&self) -> Result<bool, DatapathError> {
        Ok(self.counter(Counter::SockOpsDirect)? > 0)
    }
}

/// The time that the kernel's programs go by.
#[must_use]
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
