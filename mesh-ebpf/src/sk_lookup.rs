//! Capture in: a connection that reaches an enrolled pod from outside goes to the agent's listeners.
//!
//! Passed to the application are only loopback, recorded connects (the pod's to itself, and those
//! exempted from the tunnel), and the node's own addresses. Everything else is steered, or dropped: when the agent's listener is not there,
//! and, in the clear, when the agent has said that no policy could allow it.
//! The program is loaded once for each pod, because nothing in its context names the namespace.

use aya_ebpf::Global;
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use mesh_common::abi::{
    Address, Counter, Expected, ExpectedKind, FlowKey, HBONE_PORT, Listener, ListenerKey,
};

use crate::counters::count;
use crate::maps::{ENROLLED, EXPECTED, LISTENERS, NODE_ADDRESSES};
use crate::refused;

/// Declares the bytes of the cookie of the network namespace that this copy of the program serves.
/// The loader sets them, and the verifier folds them into one constant.
macro_rules! netns_cookie {
    ($($byte:ident),*) => {
        $(#[unsafe(no_mangle)] static $byte: Global<u8> = Global::new(0);)*

        #[inline(always)]
        fn netns_cookie() -> u64 {
            u64::from_le_bytes([$($byte.load()),*])
        }
    };
}

netns_cookie!(
    NETNS_COOKIE_0,
    NETNS_COOKIE_1,
    NETNS_COOKIE_2,
    NETNS_COOKIE_3,
    NETNS_COOKIE_4,
    NETNS_COOKIE_5,
    NETNS_COOKIE_6,
    NETNS_COOKIE_7
);

const DROP: u32 = 0;
const PASS: u32 = 1;
const AF_INET: u32 = 2;
const TCP: u32 = 6;
/// The loopback device has this index in every network namespace.
const LOOPBACK: u32 = 1;
const NOT_FOUND: i32 = -2;

#[sk_lookup]
pub(crate) fn weft_sk_lookup(ctx: SkLookupContext) -> u32 {
    let raw = ctx.lookup;
    // SAFETY: the context is valid for the program's run, and all these fields are always readable.
    let (family, protocol, local4, remote4, local6, remote6, local_port, remote_port, ifindex) = unsafe {
        (
            (&raw const (*raw).family).read_volatile(),
            (&raw const (*raw).protocol).read_volatile(),
            (&raw const (*raw).local_ip4).read_volatile(),
            (&raw const (*raw).remote_ip4).read_volatile(),
            [
                (&raw const (*raw).local_ip6[0]).read_volatile(),
                (&raw const (*raw).local_ip6[1]).read_volatile(),
                (&raw const (*raw).local_ip6[2]).read_volatile(),
                (&raw const (*raw).local_ip6[3]).read_volatile(),
            ],
            [
                (&raw const (*raw).remote_ip6[0]).read_volatile(),
                (&raw const (*raw).remote_ip6[1]).read_volatile(),
                (&raw const (*raw).remote_ip6[2]).read_volatile(),
                (&raw const (*raw).remote_ip6[3]).read_volatile(),
            ],
            (&raw const (*raw).local_port).read_volatile(),
            (&raw const (*raw).remote_port).read_volatile(),
            (&raw const (*raw).ingress_ifindex).read_volatile(),
        )
    };
    if protocol != TCP {
        return verdict(PASS, Counter::LookupNotTcp);
    }
    if ifindex == LOOPBACK {
        return verdict(PASS, Counter::LookupLoopback);
    }
    let (local, remote) = if family == AF_INET {
        (
            Address::from_ipv4_be(local4),
            Address::from_ipv4_be(remote4),
        )
    } else {
        (Address(local6), Address(remote6))
    };
    let netns = netns_cookie();
    let flow = FlowKey {
        netns,
        local,
        remote,
        local_port: local_port as u16,
        remote_port: u16::from_be(remote_port),
        padding: 0,
    };
    if let Some(expected) = EXPECTED.get_ptr_mut(flow) {
        return expected_verdict(expected);
    }
    // Not recorded, so it is no connect of the pod: only an outsider that took the pod's address.
    // SAFETY: an entry replaced meanwhile reads as the old or the new pod, both of this namespace.
    if remote == local || unsafe { ENROLLED.get(netns) }.is_some_and(|pod| pod.owns(&remote)) {
        return verdict(DROP, Counter::LookupOwnSource);
    }
    if NODE_ADDRESSES.get_ptr(remote).is_some() {
        return verdict(PASS, Counter::LookupNode);
    }
    let (listener, steered) = if local_port == u32::from(HBONE_PORT) {
        (Listener::Hbone, Counter::LookupHbone)
    } else {
        if let Some(slot) = refused::slot(netns, flow.local_port) {
            refused::count(slot, &flow);
            return verdict(DROP, Counter::LookupPolicy);
        }
        (Listener::Plaintext, Counter::LookupPlaintext)
    };
    match LISTENERS.redirect_sk_lookup(&ctx, ListenerKey::new(netns, listener), 0) {
        Ok(()) => verdict(PASS, steered),
        Err(NOT_FOUND) => verdict(DROP, Counter::LookupNoListener),
        Err(_) => verdict(DROP, Counter::LookupAssignFailed),
    }
}

#[inline(always)]
fn expected_verdict(expected: *mut Expected) -> u32 {
    // SAFETY: the entry outlives the program's run; only this connection's own programs write it.
    let kind = unsafe { &raw mut (*expected).kind };
    // SAFETY: as above.
    let found = unsafe { kind.read_volatile() };
    if found == ExpectedKind::Local as u32 {
        return verdict(PASS, Counter::LookupLocal);
    }
    if found == ExpectedKind::Direct as u32 || found == ExpectedKind::DirectSeen as u32 {
        // SAFETY: as above.
        unsafe { kind.write_volatile(ExpectedKind::DirectSeen as u32) };
        return verdict(PASS, Counter::LookupDirect);
    }
    verdict(DROP, Counter::LookupRefused)
}

#[inline(always)]
fn verdict(verdict: u32, reason: Counter) -> u32 {
    count(reason);
    verdict
}
