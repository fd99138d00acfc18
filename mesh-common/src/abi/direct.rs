//! The same-node fast path: which connects are exempted from the tunnel, and what is told of them.

use super::{Address, FlowKey};

/// A destination that a pod may reach without a tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectKey {
    /// Cookie of the network namespace of the connecting pod.
    pub source: u64,
    /// Address of the destination.
    pub destination: Address,
    /// Port of the destination, host byte order.
    pub port: u16,
    /// Zero.
    pub padding: [u16; 3],
}

impl DirectKey {
    /// The key of one destination of the pod in the network namespace `source`.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: u64, destination: Address, port: u16) -> Self {
        Self {
            source,
            destination,
            port,
            padding: [0; 3],
        }
    }
}

/// What an exempted connect must be: it is judged as coming from `source` and going to the pod in
/// `destination`, and is nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Cookie of the network namespace of the destination.
    pub destination: u64,
    /// The connecting pod's address.
    pub source: Address,
}

/// An end of a connection.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectEnd {
    /// The connecting side.
    Client = 1,
    /// The accepting side.
    Server = 2,
}

/// Marks a socket of a direct connection, in the socket's own storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectSocket {
    /// Cookie of the network namespace of the connecting side.
    pub source: u64,
    /// Cookie of the network namespace of the accepting side.
    pub destination: u64,
    /// A [`DirectEnd`]: which side this socket is.
    pub end: u32,
    /// Zero.
    pub padding: u32,
}

impl DirectSocket {
    /// The mark of one end.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: u64, destination: u64, end: DirectEnd) -> Self {
        Self {
            source,
            destination,
            end: end as u32,
            padding: 0,
        }
    }

    /// Whether it marks the connecting side.
    #[inline(always)]
    #[must_use]
    pub const fn is_client(&self) -> bool {
        self.end == DirectEnd::Client as u32
    }
}

/// What happened to a direct connection.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectEventKind {
    /// The accepting side is established.
    Opened = 1,
    /// One side is closed.
    Closed = 2,
    /// The connecting side was answered by somebody else than the exempted pod.
    Stray = 3,
}

/// One event of a direct connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectEvent {
    /// The connection; the network namespace is that of the accepting side.
    pub flow: FlowKey,
    /// Cookie of the network namespace of the connecting side.
    pub source: u64,
    /// When, in nanoseconds since boot.
    pub time: u64,
    /// Closed: bytes that the far side has acknowledged; SYN and FIN count as one each.
    pub acked: u64,
    /// Closed: bytes received; a FIN counts as one.
    pub received: u64,
    /// A [`DirectEventKind`].
    pub kind: u32,
    /// A [`DirectEnd`]: which side tells.
    pub end: u32,
    /// Closed: the state before, a number of the kernel's.
    pub state: u32,
    /// Closed: 1 when everything sent was acknowledged.
    pub all_acked: u32,
}

const _: () = {
    assert!(size_of::<DirectKey>() == 32);
    assert!(size_of::<Exemption>() == 24);
    assert!(size_of::<DirectSocket>() == 24);
    assert!(size_of::<DirectEvent>() == 96);
};
