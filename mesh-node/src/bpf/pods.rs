//! The enrolled pods: their addresses, listeners and `sk_lookup` links.
//!
//! Order matters. A connect of the agent to the application must be known as local before
//! inbound connections are steered, or it would be steered back to the agent: so a pod enters the table first and
//! gets its link last, and leaves in the opposite order. What exempts connections from or to it ends before that, what
//! refuses connections to it after.

use aya::maps::{HashMap, Map, MapData, MapError, SockHash};
use mesh_common::abi::{
    Address, EnrolledPod, Listener, ListenerKey, MAX_POD_ADDRESSES, map, program,
};
use rustix::fs::fstat;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::attach::{Target, attach_pinned};
use super::direct::Exemptions;
use super::error::DatapathError;
use super::load::Loader;
use super::pins::{self, Pins};
use super::refused::Refused;
use crate::sys::Netns;
use crate::sys::bpf::{Abi, AttachType};

/// A pod's listening sockets, which live in its network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Listeners<'a> {
    /// For plaintext arriving at any port.
    pub plaintext: BorrowedFd<'a>,
    /// For HBONE.
    pub hbone: BorrowedFd<'a>,
}

/// Who is enrolled, in the kernel's own tables.
pub(super) struct Pods {
    pins: Pins,
    loader: Loader,
    max_pods: u32,
    enrolled: HashMap<MapData, u64, Abi<EnrolledPod>>,
    listeners: SockHash<MapData, Abi<ListenerKey>>,
    pub(super) exemptions: Exemptions,
    pub(super) refused: Refused,
}

impl Pods {
    /// Opens the tables that `loader` has pinned.
    pub(super) fn open(pins: Pins, loader: Loader, max_pods: u32) -> Result<Self, DatapathError> {
        Ok(Self {
            enrolled: pins.typed(map::ENROLLED, |map: Map| map.try_into())?,
            listeners: pins.typed(map::LISTENERS, |map: Map| map.try_into())?,
            exemptions: Exemptions::open(&pins)?,
            refused: Refused::open(&pins, max_pods)?,
            pins,
            loader,
            max_pods,
        })
    }

    pub(super) fn enrolled(&self) -> Result<Vec<u64>, DatapathError> {
        let table = self.enrolled.keys().collect::<Result<BTreeSet<_>, _>>();
        let mut cookies = table.map_err(|source| DatapathError::map(map::ENROLLED, source))?;
        cookies.extend(self.pins.pods()?);
        Ok(cookies.into_iter().collect())
    }

    pub(super) fn enroll(
        &mut self,
        netns: &Netns,
        addresses: &[IpAddr],
        listeners: &Listeners<'_>,
    ) -> Result<(), DatapathError> {
        let pod = describe(addresses)?;
        let renewed = self.enrolled()?.contains(&netns.cookie());
        let result = self.put_in_place(netns, &pod, listeners);
        if result.is_err() && !renewed {
            self.unenroll(netns.cookie())?;
        }
        result
    }

    fn put_in_place(
        &mut self,
        netns: &Netns,
        pod: &EnrolledPod,
        listeners: &Listeners<'_>,
    ) -> Result<(), DatapathError> {
        let cookie = netns.cookie();
        let loaded = self.loader.sk_lookup(cookie)?;
        let sockets = [
            (Listener::Plaintext, listeners.plaintext),
            (Listener::Hbone, listeners.hbone),
        ];
        for (kind, socket) in sockets {
            self.listeners
                .insert(Abi(ListenerKey::new(cookie, kind)), socket.as_raw_fd(), 0)
                .map_err(|e| refused(map::LISTENERS, self.max_pods.saturating_mul(2), e))?;
        }
        self.enrolled
            .insert(cookie, Abi(*pod), 0)
            .map_err(|e| refused(map::ENROLLED, self.max_pods, e))?;
        let name = format!("the network namespace with cookie {cookie}");
        let inode = fstat(netns).map_err(|e| {
            DatapathError::Attach(program::SK_LOOKUP, name.clone(), io::Error::from(e))
        })?;
        let target = Target {
            name,
            fd: netns.as_fd(),
            id: inode.st_ino,
        };
        let pin = self.pins.pod(cookie);
        attach_pinned(
            &pin,
            program::SK_LOOKUP,
            AttachType::SkLookup,
            &loaded,
            &target,
        )
    }

    /// Whether the pod with this namespace cookie is enrolled.
    pub(super) fn is_enrolled(&self, cookie: u64) -> Result<bool, DatapathError> {
        match self.enrolled.get(&cookie, 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(source) => Err(DatapathError::map(map::ENROLLED, source)),
        }
    }

    pub(super) fn unenroll(&mut self, cookie: u64) -> Result<(), DatapathError> {
        self.exemptions.forget(cookie)?;
        pins::remove_link(&self.pins.pod(cookie))?;
        absent_is_fine(map::ENROLLED, self.enrolled.remove(&cookie))?;
        for kind in Listener::ALL {
            let key = Abi(ListenerKey::new(cookie, kind));
            absent_is_fine(map::LISTENERS, self.listeners.remove(&key))?;
        }
        self.refused.forget(cookie)
    }

    /// Removes what is left of pods whose network namespace ended while no agent looked.
    pub(super) fn forget_dead(&mut self) -> Result<(), DatapathError> {
        let dead = self.pins.dead_pods()?;
        dead.into_iter()
            .try_for_each(|cookie| self.unenroll(cookie))
    }
}

fn describe(addresses: &[IpAddr]) -> Result<EnrolledPod, DatapathError> {
    if addresses.len() > MAX_POD_ADDRESSES {
        return Err(DatapathError::TooManyAddresses(addresses.len()));
    }
    let first = |ipv4: bool| {
        let found = addresses.iter().find(|address| address.is_ipv4() == ipv4);
        found.map_or(Address::UNSPECIFIED, |&address| address.into())
    };
    if addresses.is_empty() {
        return Err(DatapathError::NoAddress);
    }
    let mut own = [Address::UNSPECIFIED; MAX_POD_ADDRESSES];
    for (place, &address) in own.iter_mut().zip(addresses) {
        *place = address.into();
    }
    Ok(EnrolledPod {
        ipv4: first(true),
        ipv6: first(false),
        addresses: own,
    })
}

fn system_error(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(e) => e.io_error.raw_os_error(),
        _ => None,
    }
}

pub(super) fn refused(name: &'static str, capacity: u32, error: MapError) -> DatapathError {
    match system_error(&error) {
        Some(libc::E2BIG) => DatapathError::Full(name, capacity),
        _ => DatapathError::map(name, error),
    }
}

pub(super) fn absent_is_fine(
    name: &'static str,
    result: Result<(), MapError>,
) -> Result<(), DatapathError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(error) if matches!(system_error(&error), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        other => other.map_err(|source| DatapathError::map(name, source)),
    }
}
