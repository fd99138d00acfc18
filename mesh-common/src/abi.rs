//! Layout of the BPF maps: the contract between the eBPF programs and the agent.
//!
//! Every type is `repr(C)` with its padding spelled out, so both sides agree on each byte. Addresses
//! are always 128 bits, IPv4 as `::ffff:a.b.c.d`: one table serves IPv4, IPv6 and IPv4-mapped
//! sockets alike. Any change of a layout or of a meaning raises [`ABI_VERSION`].

use core::net::{IpAddr, Ipv6Addr};

mod counter;
mod direct;
mod refused;

pub use counter::Counter;
pub use direct::{DirectEnd, DirectEvent, DirectEventKind, DirectKey, DirectSocket, Exemption};
pub use refused::{NOT_REFUSED, RefusedCount, RefusedKey, RefusedSlot};

/// Version of everything in this module; part of the path at which maps and links are pinned.
pub const ABI_VERSION: u32 = 3;

/// Outbound capture: a captured connect is sent to the pod's own address at this port.
pub const OUTBOUND_PORT: u16 = 15001;
/// Plaintext arriving at a pod is accepted by the listener bound to this port.
pub const INBOUND_PORT: u16 = 15006;
/// HBONE tunnels arrive at this port.
pub const HBONE_PORT: u16 = 15008;

/// How many addresses of one pod the data path knows.
pub const MAX_POD_ADDRESSES: usize = 8;

/// How deep below the cgroup root the agent's cgroup may be.
pub const MAX_CGROUP_DEPTH: i32 = 32;

/// How many agents are told apart from the applications: the one that runs, and those that leave.
pub const MAX_AGENTS: u32 = 4;

/// Names of the maps.
pub mod map {
    /// `u64` network namespace cookie -> [`super::EnrolledPod`].
    pub const ENROLLED: &str = "ENROLLED";
    /// Socket storage: [`super::Origin`].
    pub const ORIGIN: &str = "ORIGIN";
    /// [`super::FlowKey`] -> [`super::Origin`]: from the connecting socket to the accepted one.
    pub const HANDOVER: &str = "HANDOVER";
    /// [`super::FlowKey`] of a connection that `sk_lookup` is to know -> [`super::Expected`].
    pub const EXPECTED: &str = "EXPECTED";
    /// [`super::ListenerKey`] -> listening socket.
    pub const LISTENERS: &str = "LISTENERS";
    /// [`super::Address`] of the node -> `u8`.
    pub const NODE_ADDRESSES: &str = "NODE_ADDRESSES";
    /// `u16` port that is never captured -> `u8`.
    pub const EXCLUDED_PORTS: &str = "EXCLUDED_PORTS";
    /// Prefix of [`super::Address`] that is never captured -> `u8`.
    pub const EXCLUDED_CIDRS: &str = "EXCLUDED_CIDRS";
    /// [`super::MAX_AGENTS`] of [`super::Agent`], the newest first.
    pub const AGENT: &str = "AGENT";
    /// [`super::Counter`] -> `u64` for each processor.
    pub const COUNTERS: &str = "COUNTERS";
    /// [`super::DirectKey`] -> [`super::Exemption`].
    pub const DIRECT: &str = "DIRECT";
    /// One `u64`: exemptions hold until then, in nanoseconds since boot.
    pub const LEASE: &str = "LEASE";
    /// Socket storage: [`super::DirectSocket`].
    pub const DIRECT_SOCKETS: &str = "DIRECT_SOCKETS";
    /// Ring of [`super::DirectEvent`]s.
    pub const DIRECT_EVENTS: &str = "DIRECT_EVENTS";
    /// [`super::RefusedKey`] -> `u32`: a slot of the next two, or [`super::NOT_REFUSED`].
    pub const REFUSED: &str = "REFUSED";
    /// Slot -> [`super::RefusedCount`] for each processor.
    pub const REFUSED_COUNTS: &str = "REFUSED_COUNTS";
    /// Slot -> [`super::RefusedSlot`].
    pub const REFUSED_SLOTS: &str = "REFUSED_SLOTS";
    /// All of them.
    pub const ALL: [&str; 17] = [
        ENROLLED,
        ORIGIN,
        HANDOVER,
        EXPECTED,
        LISTENERS,
        NODE_ADDRESSES,
        EXCLUDED_PORTS,
        EXCLUDED_CIDRS,
        AGENT,
        COUNTERS,
        DIRECT,
        LEASE,
        DIRECT_SOCKETS,
        DIRECT_EVENTS,
        REFUSED,
        REFUSED_COUNTS,
        REFUSED_SLOTS,
    ];
}

/// Names of the programs, and of what the loader sets in them.
pub mod program {
    /// `cgroup/connect4`.
    pub const CONNECT4: &str = "weft_connect4";
    /// `cgroup/connect6`.
    pub const CONNECT6: &str = "weft_connect6";
    /// `cgroup/getpeername4`.
    pub const GETPEERNAME4: &str = "weft_peername4";
    /// `cgroup/getpeername6`.
    pub const GETPEERNAME6: &str = "weft_peername6";
    /// `sock_ops`.
    pub const SOCK_OPS: &str = "weft_sock_ops";
    /// `sk_lookup`, loaded once for each pod.
    pub const SK_LOOKUP: &str = "weft_sk_lookup";
    /// Constants of the `sk_lookup` program: the cookie of the network namespace that it serves, one
    /// byte each, the lowest first.
    pub const NETNS_COOKIE: [&str; 8] = [
        "NETNS_COOKIE_0",
        "NETNS_COOKIE_1",
        "NETNS_COOKIE_2",
        "NETNS_COOKIE_3",
        "NETNS_COOKIE_4",
        "NETNS_COOKIE_5",
        "NETNS_COOKIE_6",
        "NETNS_COOKIE_7",
    ];
}

/// An IPv6 address, or an IPv4 one in its mapped form; the words are in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

const MAPPED_PREFIX: u32 = 0xffff_u32.to_be();

impl Address {
    /// No address.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// An IPv4 address, given in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from_ipv4_be(address: u32) -> Self {
        Self([0, 0, MAPPED_PREFIX, address])
    }

    /// Whether this is an IPv4 address in its mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED_PREFIX
    }

    /// Whether it names the host itself: loopback, or unspecified, which a connect takes for it.
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        let last = u32::from_be(self.0[3]);
        if self.is_ipv4() {
            last >> 24 == 127 || last == 0
        } else {
            self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && last <= 1
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let word =
            |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(address.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Self::V6(Ipv6Addr::from(octets)).to_canonical()
    }
}

/// A pod whose connections are captured.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnrolledPod {
    /// Where captured IPv4 connects go; unspecified when the pod has no IPv4 address.
    pub ipv4: Address,
    /// Where captured IPv6 connects go; unspecified when the pod has no IPv6 address.
    pub ipv6: Address,
    /// Every address of the pod; unused places are unspecified.
    pub addresses: [Address; MAX_POD_ADDRESSES],
}

impl EnrolledPod {
    /// Whether `address` is one of the pod's own.
    #[inline(always)]
    #[must_use]
    pub fn owns(&self, address: &Address) -> bool {
        self.addresses.iter().any(|own| own == address)
    }
}

/// Which of a pod's listeners.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Inbound plaintext.
    Plaintext = 0,
    /// HBONE.
    Hbone = 1,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Plaintext, Self::Hbone];
}

/// Key of a pod's listening socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerKey {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// A [`Listener`].
    pub kind: u32,
    /// Zero.
    pub padding: u32,
}

impl ListenerKey {
    /// The key of one listener of the pod in `netns`.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns: u64, kind: Listener) -> Self {
        Self {
            netns,
            kind: kind as u32,
            padding: 0,
        }
    }
}

/// A TCP connection inside a network namespace, as its accepting side sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Address of the accepting side.
    pub local: Address,
    /// Address of the connecting side.
    pub remote: Address,
    /// Port of the accepting side, host byte order.
    pub local_port: u16,
    /// Port of the connecting side, host byte order.
    pub remote_port: u16,
    /// Zero.
    pub padding: u32,
}

/// Why `sk_lookup` is to know a connection.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedKind {
    /// A pod's connect to itself: passes.
    Local = 1,
    /// A connect that is exempted from the tunnel: passes.
    Direct = 2,
    /// The same, once `sk_lookup` has passed it.
    DirectSeen = 3,
    /// A connect whose exemption ended before its first packet left: is dropped.
    Refused = 4,
}

/// A connection that `sk_lookup` is to know.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Cookie of the network namespace of the connecting side.
    pub source: u64,
    /// An [`ExpectedKind`].
    pub kind: u32,
    /// Zero.
    pub padding: u32,
}

impl Expected {
    /// A connection from the network namespace `source`.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: u64, kind: ExpectedKind) -> Self {
        Self {
            source,
            kind: kind as u32,
            padding: 0,
        }
    }

    /// Whether it is exempted from the tunnel.
    #[inline(always)]
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.kind == ExpectedKind::Direct as u32 || self.kind == ExpectedKind::DirectSeen as u32
    }
}

/// What an [`Origin`] says.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// The destination that the application dialled before its connect was captured.
    Captured = 1,
    /// The true client of a connection that the agent delivers to the application.
    Delivered = 2,
}

/// The far end that a socket would have without the mesh, kept in the socket's own storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its address.
    pub address: Address,
    /// Its port, host byte order.
    pub port: u16,
    /// Zero.
    pub padding: u16,
    /// An [`OriginKind`].
    pub kind: u32,
}

impl Origin {
    /// An origin of the given kind.
    #[inline(always)]
    #[must_use]
    pub const fn new(kind: OriginKind, address: Address, port: u16) -> Self {
        Self {
            address,
            port,
            padding: 0,
            kind: kind as u32,
        }
    }
}

/// How the programs tell the agent's own sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Id of the agent's cgroup; a process in it or below it is the agent. Zero matches nothing.
    pub cgroup: u64,
}

const _: () = {
    assert!(size_of::<EnrolledPod>() == 16 * (2 + MAX_POD_ADDRESSES));
    assert!(size_of::<ListenerKey>() == 16);
    assert!(size_of::<FlowKey>() == 48);
    assert!(size_of::<Origin>() == 24);
    assert!(size_of::<Agent>() == 8);
    assert!(size_of::<Expected>() == 16);
};
