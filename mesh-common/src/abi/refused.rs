//! Connections in the clear that the agent need not be asked about: no policy could allow them.

use super::Address;

/// A port of a pod at which such connections are refused, or all ports that have no entry of their own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefusedKey {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// The port, host byte order.
    pub port: u16,
    /// 1: every port without an entry of its own; `port` is zero then.
    pub others: u16,
    /// Zero.
    pub padding: u32,
}

impl RefusedKey {
    /// The key of one port.
    #[inline(always)]
    #[must_use]
    pub const fn port(netns: u64, port: u16) -> Self {
        Self {
            netns,
            port,
            others: 0,
            padding: 0,
        }
    }

    /// The key of every port without an entry of its own.
    #[inline(always)]
    #[must_use]
    pub const fn others(netns: u64) -> Self {
        Self {
            others: 1,
            ..Self::port(netns, 0)
        }
    }
}

/// In place of a slot: connections to this port are the agent's to judge.
pub const NOT_REFUSED: u32 = u32::MAX;

/// What one processor refused on behalf of one pod and policy.
///
/// Written from the last field to the first, so that a copy of which `told` equals `count` is whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCount {
    /// As `count`, written last.
    pub told: u64,
    /// When the last one came, in nanoseconds since boot.
    pub time: u64,
    /// Where it came from.
    pub source: Address,
    /// The port it came from, host byte order.
    pub source_port: u16,
    /// The port it went to, host byte order.
    pub port: u16,
    /// Zero.
    pub padding: u32,
    /// How many so far.
    pub count: u64,
}

/// To whom a slot belongs, for the agent that comes after this one. The programs do not read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedSlot {
    /// Cookie of the pod's network namespace; zero when the slot is free.
    pub netns: u64,
    /// Hash of the policy's name.
    pub policy: u64,
    /// How many of those counted an agent has reported.
    pub reported: u64,
}

const _: () = {
    assert!(size_of::<RefusedKey>() == 16);
    assert!(size_of::<RefusedCount>() == 48);
    assert!(size_of::<RefusedSlot>() == 24);
};
