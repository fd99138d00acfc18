//! Capture out: a TCP connect of an enrolled pod goes to the pod's own address, port 15001, unless policy
//! exempts it.
//!
//! The original destination is kept on the socket first; a connect that cannot be captured is
//! refused, never let out in plaintext.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use mesh_common::abi::{Address, Counter, OUTBOUND_PORT, Origin, OriginKind};

use crate::agent::is_agent;
use crate::counters::count;
use crate::direct;
use crate::maps::{ENROLLED, EXCLUDED_CIDRS, EXCLUDED_PORTS, ORIGIN};
use crate::storage;

const DENY: i32 = 0;
const ALLOW: i32 = 1;
const STREAM: u32 = 1;
const TCP: u32 = 6;

/// What becomes of a connect.
enum Outcome {
    Pass(Counter),
    Deny(Counter),
    Redirect(Address),
}

/// An outgoing connect, as the context shows it.
struct Connect {
    destination: Address,
    port: u16,
    kind: u32,
    protocol: u32,
    sk: *mut bpf_sock,
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn weft_connect4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the context is valid for the program's run; these fields are readable in connect4.
    let connect = unsafe {
        Connect {
            destination: Address::from_ipv4_be((&raw const (*raw).user_ip4).read_volatile()),
            port: u16::from_be((&raw const (*raw).user_port).read_volatile() as u16),
            kind: (&raw const (*raw).type_).read_volatile(),
            protocol: (&raw const (*raw).protocol).read_volatile(),
            sk: (&raw const (*raw).__bindgen_anon_1.sk).read_volatile(),
        }
    };
    match judge::<true>(&ctx, &connect) {
        Outcome::Pass(reason) => pass(&connect, reason),
        Outcome::Deny(reason) => deny(reason),
        Outcome::Redirect(Address(to)) => {
            // SAFETY: as above; these fields are writable in connect4.
            unsafe {
                (&raw mut (*raw).user_ip4).write_volatile(to[3]);
                (&raw mut (*raw).user_port).write_volatile(u32::from(OUTBOUND_PORT.to_be()));
            }
            count(Counter::ConnectRedirect);
            ALLOW
        }
    }
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn weft_connect6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the context is valid for the program's run; these fields are readable in connect6.
    let connect = unsafe {
        Connect {
            destination: Address([
                (&raw const (*raw).user_ip6[0]).read_volatile(),
                (&raw const (*raw).user_ip6[1]).read_volatile(),
                (&raw const (*raw).user_ip6[2]).read_volatile(),
                (&raw const (*raw).user_ip6[3]).read_volatile(),
            ]),
            port: u16::from_be((&raw const (*raw).user_port).read_volatile() as u16),
            kind: (&raw const (*raw).type_).read_volatile(),
            protocol: (&raw const (*raw).protocol).read_volatile(),
            sk: (&raw const (*raw).__bindgen_anon_1.sk).read_volatile(),
        }
    };
    match judge::<false>(&ctx, &connect) {
        Outcome::Pass(reason) => pass(&connect, reason),
        Outcome::Deny(reason) => deny(reason),
        Outcome::Redirect(Address(to)) => {
            // SAFETY: as above; these fields are writable in connect6.
            unsafe {
                (&raw mut (*raw).user_ip6[0]).write_volatile(to[0]);
                (&raw mut (*raw).user_ip6[1]).write_volatile(to[1]);
                (&raw mut (*raw).user_ip6[2]).write_volatile(to[2]);
                (&raw mut (*raw).user_ip6[3]).write_volatile(to[3]);
                (&raw mut (*raw).user_port).write_volatile(u32::from(OUTBOUND_PORT.to_be()));
            }
            count(Counter::ConnectRedirect);
            ALLOW
        }
    }
}

/// `FOUR` says which family the socket is of.
#[inline(always)]
fn judge<const FOUR: bool>(ctx: &SockAddrContext, connect: &Connect) -> Outcome {
    if connect.kind != STREAM || connect.protocol != TCP {
        return Outcome::Pass(Counter::ConnectNotTcp);
    }
    // SAFETY: the helper takes this program's context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: an entry replaced meanwhile reads as the old or the new pod, both of this namespace.
    let Some(pod) = (unsafe { ENROLLED.get(netns) }) else {
        return Outcome::Pass(Counter::ConnectNotEnrolled);
    };
    if is_agent() {
        return Outcome::Pass(Counter::ConnectAgent);
    }
    if connect.destination.is_loopback() {
        return Outcome::Pass(Counter::ConnectLoopback);
    }
    if pod.owns(&connect.destination) {
        return Outcome::Pass(Counter::ConnectOwnAddress);
    }
    if EXCLUDED_PORTS.get_ptr(connect.port).is_some() {
        return Outcome::Pass(Counter::ConnectExcludedPort);
    }
    if EXCLUDED_CIDRS
        .get(&Key::new(128, connect.destination))
        .is_some()
    {
        return Outcome::Pass(Counter::ConnectExcludedCidr);
    }
    let (destination, port) = (&connect.destination, connect.port);
    // SAFETY: the socket is the context's, which is never null in these programs.
    if unsafe { direct::exempt::<FOUR>(connect.sk, netns, destination, port) } {
        return Outcome::Pass(Counter::ConnectDirect);
    }
    let to = if connect.destination.is_ipv4() {
        pod.ipv4
    } else {
        pod.ipv6
    };
    if to == Address::UNSPECIFIED {
        return Outcome::Deny(Counter::ConnectNoAddress);
    }
    let dialled = Origin::new(OriginKind::Captured, connect.destination, connect.port);
    // SAFETY: the socket is the context's, which is never null in these programs.
    let kept = unsafe {
        direct::clear(connect.sk);
        storage::set(&ORIGIN, connect.sk, &dialled)
    };
    if kept {
        Outcome::Redirect(to)
    } else {
        Outcome::Deny(Counter::ConnectNoStorage)
    }
}

#[inline(always)]
fn pass(connect: &Connect, reason: Counter) -> i32 {
    // The agent announces a client on its socket before it connects: that must stay.
    if reason != Counter::ConnectAgent {
        // SAFETY: the socket is the context's, which is never null in these programs.
        unsafe { storage::clear(&ORIGIN, connect.sk) };
    }
    if reason != Counter::ConnectDirect {
        // SAFETY: as above.
        unsafe { direct::clear(connect.sk) };
    }
    count(reason);
    ALLOW
}

#[inline(always)]
fn deny(reason: Counter) -> i32 {
    count(reason);
    DENY
}
