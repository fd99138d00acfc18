//! The same-node fast path: connects that the agent has exempted from the tunnel.
//!
//! The connect is marked first; the exemption is looked up again just before the first packet leaves.
//! What the agent withdraws in between finds the marked socket, or the connection is refused: none is
//! missed. In the destination only the exact tuple recorded there passes, until it is accepted.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::programs::SockOpsContext;
use mesh_common::abi::{
    Address, Counter, DirectEnd, DirectEvent, DirectEventKind, DirectKey, DirectSocket, Exemption,
    Expected, ExpectedKind, FlowKey,
};

use crate::counters::count;
use crate::maps::{DIRECT, DIRECT_EVENTS, DIRECT_SOCKETS, ENROLLED, EXPECTED, LEASE};
use crate::socket::{Socket, netns};
use crate::storage;

/// Exempts a connect if the agent said so, and marks its socket. `FOUR` says which family the socket is of.
///
/// # Safety
/// `sk` is the socket of the program's context, and not null.
#[inline(always)]
pub(crate) unsafe fn exempt<const FOUR: bool>(
    sk: *mut bpf_sock,
    netns: u64,
    destination: &Address,
    port: u16,
) -> bool {
    let Some(exemption) = exemption(netns, destination, port) else {
        return false;
    };
    // SAFETY: upheld by the caller; these fields of a socket are readable.
    let bound = unsafe {
        if FOUR {
            Address::from_ipv4_be((&raw const (*sk).src_ip4).read_volatile())
        } else {
            Address([
                (&raw const (*sk).src_ip6[0]).read_volatile(),
                (&raw const (*sk).src_ip6[1]).read_volatile(),
                (&raw const (*sk).src_ip6[2]).read_volatile(),
                (&raw const (*sk).src_ip6[3]).read_volatile(),
            ])
        }
    };
    let free = bound == Address::UNSPECIFIED || bound == Address::from_ipv4_be(0);
    if !free && bound != exemption.source {
        return false;
    }
    let mark = DirectSocket::new(netns, exemption.destination, DirectEnd::Client);
    // SAFETY: upheld by the caller.
    unsafe { storage::set(&DIRECT_SOCKETS, sk, &mark) }
}

/// Removes the mark that an earlier connect of the same socket left.
///
/// # Safety
/// As for [`exempt`].
#[inline(always)]
pub(crate) unsafe fn clear(sk: *mut bpf_sock) {
    // SAFETY: upheld by the caller.
    unsafe { storage::clear(&DIRECT_SOCKETS, sk) };
}

/// The mark of a socket, if it is of a direct connection.
///
/// # Safety
/// As for [`exempt`].
#[inline(always)]
pub(crate) unsafe fn mark<'a>(sk: *mut bpf_sock) -> Option<&'a DirectSocket> {
    // SAFETY: upheld by the caller.
    unsafe { storage::get(&DIRECT_SOCKETS, sk) }
}

/// A marked socket is about to send its first packet.
#[inline(always)]
pub(crate) fn connecting(ctx: &SockOpsContext, socket: &Socket, mark: &DirectSocket) {
    let source = netns(ctx);
    let exempted = exemption(source, &socket.remote, socket.remote_port).is_some_and(|exemption| {
        exemption.destination == mark.destination && exemption.source == socket.local
    });
    let allowed = exempted && is_enrolled(source) && owns(mark.destination, &socket.remote);
    let (kind, counter) = if allowed {
        (ExpectedKind::Direct, Counter::SockOpsDirect)
    } else {
        (ExpectedKind::Refused, Counter::SockOpsDirectRefused)
    };
    let flow = socket.connecting(mark.destination);
    let recorded = EXPECTED
        .insert(flow, Expected::new(source, kind), 0)
        .is_ok();
    count(if recorded {
        counter
    } else {
        Counter::SockOpsDirectFailed
    });
    socket.watch_state(ctx);
}

/// A marked socket got its answer: `sk_lookup` of the pod it was meant for must have passed it.
#[inline(always)]
pub(crate) fn answered(socket: &Socket, mark: &DirectSocket) {
    let flow = socket.connecting(mark.destination);
    // SAFETY: only this connection's own sockets write the entry; it is copied at once.
    let Some(expected) = (unsafe { EXPECTED.get(flow) }).copied() else {
        // Accepted already, as with data in the SYN.
        return;
    };
    if expected.kind != ExpectedKind::DirectSeen as u32 {
        count(Counter::SockOpsDirectStray);
        tell(&event(
            flow,
            mark.source,
            DirectEventKind::Stray,
            DirectEnd::Client,
        ));
    }
}

/// A connection that was expected is accepted. Its tuple is not needed from now on.
#[inline(always)]
pub(crate) fn accepted(ctx: &SockOpsContext, socket: &Socket, flow: FlowKey, expected: &Expected) {
    let mark = DirectSocket::new(expected.source, flow.netns, DirectEnd::Server);
    // SAFETY: the socket is the context's, and was found not to be null.
    let marked = unsafe { storage::set(&DIRECT_SOCKETS, socket.sk, &mark) };
    count(if marked {
        Counter::SockOpsDirectTaken
    } else {
        Counter::SockOpsDirectNoStorage
    });
    socket.watch_state(ctx);
    // That it is gone already is no error.
    let _ = EXPECTED.remove(flow);
    tell(&event(
        flow,
        expected.source,
        DirectEventKind::Opened,
        DirectEnd::Server,
    ));
}

/// A marked socket is closed.
#[inline(always)]
pub(crate) fn closed(ctx: &SockOpsContext, socket: &Socket, mark: &DirectSocket) {
    let raw = ctx.ops;
    // SAFETY: the context is valid for the program's run, and these fields are always readable.
    let (received, acked, sent_to, acked_to) = unsafe {
        (
            (&raw const (*raw).bytes_received).read_volatile(),
            (&raw const (*raw).bytes_acked).read_volatile(),
            (&raw const (*raw).snd_nxt).read_volatile(),
            (&raw const (*raw).snd_una).read_volatile(),
        )
    };
    let (flow, end) = if mark.is_client() {
        let flow = socket.connecting(mark.destination);
        // That it is gone already is no error.
        let _ = EXPECTED.remove(flow);
        (flow, DirectEnd::Client)
    } else {
        (socket.accepted(mark.destination), DirectEnd::Server)
    };
    tell(&DirectEvent {
        acked,
        received,
        state: socket.old_state,
        all_acked: u32::from(sent_to == acked_to),
        ..event(flow, mark.source, DirectEventKind::Closed, end)
    });
    // SAFETY: the socket is the context's, and was found not to be null.
    unsafe { clear(socket.sk) };
}

/// The exemption of a destination; none without an agent that renews its lease.
#[inline(always)]
fn exemption(source: u64, destination: &Address, port: u16) -> Option<Exemption> {
    let until = LEASE.get(0).copied().unwrap_or(0);
    if until == 0 || until <= now() {
        return None;
    }
    let key = DirectKey::new(source, *destination, port);
    // SAFETY: an entry replaced meanwhile reads as the old or the new one, both of this destination.
    unsafe { DIRECT.get(key) }.copied()
}

#[inline(always)]
fn is_enrolled(netns: u64) -> bool {
    ENROLLED.get_ptr(netns).is_some()
}

#[inline(always)]
fn owns(netns: u64, address: &Address) -> bool {
    // SAFETY: an entry replaced meanwhile reads as the old or the new pod, both of this namespace.
    unsafe { ENROLLED.get(netns) }.is_some_and(|pod| pod.owns(address))
}

#[inline(always)]
fn event(flow: FlowKey, source: u64, kind: DirectEventKind, end: DirectEnd) -> DirectEvent {
    DirectEvent {
        flow,
        source,
        time: now(),
        acked: 0,
        received: 0,
        kind: kind as u32,
        end: end as u32,
        state: 0,
        all_acked: 0,
    }
}

#[inline(always)]
fn tell(event: &DirectEvent) {
    if DIRECT_EVENTS.output(event, 0).is_err() {
        count(Counter::SockOpsEventLost);
    }
}

/// Nanoseconds since boot, those asleep included.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}
