//! Hands an origin from the connecting socket to the accepted one, and records a pod's connects to
//! itself so that `sk_lookup` knows them from packets that only claim to be.
//!
//! Both are keyed by the exact tuple with the network namespace, written before the SYN leaves. They
//! are removed when the connecting socket closes: not earlier, because a SYN cookie makes the kernel
//! look the connection up again when the handshake ends.
//!
//! Only connects to the pod's own addresses are recorded. A connect to another host needs no entry (its
//! socket is found before `sk_lookup` is asked), and none can be left behind for that host to use.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use mesh_common::abi::{Address, Counter, FlowKey};

use crate::counters::count;
use crate::maps::{ENROLLED, HANDOVER, LOCAL};
use crate::origin;

const AF_INET: u32 = 2;
const CONTINUE: u32 = 1;

/// A socket, as the context shows it.
struct Socket {
    local: Address,
    remote: Address,
    local_port: u16,
    remote_port: u16,
    new_state: u32,
    flags: u32,
    sk: *mut bpf_sock,
}

#[sock_ops]
pub(crate) fn weft_sock_ops(ctx: SockOpsContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    let op = unsafe { (&raw const (*ctx.ops).op).read_volatile() };
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_STATE_CB
    {
        return CONTINUE;
    }
    let socket = read(&ctx);
    if socket.sk.is_null() {
        return CONTINUE;
    }
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        connecting(&ctx, &socket);
    } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        accepted(&ctx, &socket);
    } else if socket.new_state == BPF_TCP_CLOSE {
        closed(&ctx, &socket);
    }
    CONTINUE
}

#[inline(always)]
fn read(ctx: &SockOpsContext) -> Socket {
    let raw = ctx.ops;
    // SAFETY: the context is valid for the program's run, and all these fields are always readable.
    let (family, local4, remote4, local6, remote6, local_port, remote_port, new_state, flags, sk) = unsafe {
        (
            (&raw const (*raw).family).read_volatile(),
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
            (&raw const (*raw).__bindgen_anon_1.args[1]).read_volatile(),
            (&raw const (*raw).bpf_sock_ops_cb_flags).read_volatile(),
            (&raw const (*raw).__bindgen_anon_2.sk).read_volatile(),
        )
    };
    let (local, remote) = if family == AF_INET {
        (
            Address::from_ipv4_be(local4),
            Address::from_ipv4_be(remote4),
        )
    } else {
        (Address(local6), Address(remote6))
    };
    Socket {
        local,
        remote,
        local_port: local_port as u16,
        remote_port: u32::from_be(remote_port) as u16,
        new_state,
        flags,
        sk,
    }
}

#[inline(always)]
fn netns(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes this program's context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// The connection of a connecting socket, as the accepting side will see it.
#[inline(always)]
fn reversed(netns: u64, socket: &Socket) -> FlowKey {
    FlowKey {
        netns,
        local: socket.remote,
        remote: socket.local,
        local_port: socket.remote_port,
        remote_port: socket.local_port,
        padding: 0,
    }
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext, socket: &Socket) {
    let netns = netns(ctx);
    // SAFETY: an entry replaced meanwhile reads as the old or the new pod, both of this namespace.
    let Some(pod) = (unsafe { ENROLLED.get(netns) }) else {
        return;
    };
    let key = reversed(netns, socket);
    let mut recorded = false;
    if socket.remote == socket.local || pod.owns(&socket.remote) {
        recorded = LOCAL.insert(key, 1, 0).is_ok();
        count(if recorded {
            Counter::SockOpsLocal
        } else {
            Counter::SockOpsLocalFailed
        });
    }
    // SAFETY: the socket is the context's, and was found not to be null.
    if let Some(origin) = unsafe { origin::get(socket.sk) } {
        let left = HANDOVER.insert(key, origin, 0).is_ok();
        count(if left {
            Counter::SockOpsHandoverLeft
        } else {
            Counter::SockOpsHandoverFailed
        });
        recorded |= left;
    }
    if recorded {
        let flags = socket.flags | BPF_SOCK_OPS_STATE_CB_FLAG;
        // SAFETY: the helper takes this program's context; a socket that connects takes the flag.
        let _ = unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, flags as i32) };
    }
}

#[inline(always)]
fn accepted(ctx: &SockOpsContext, socket: &Socket) {
    let key = FlowKey {
        netns: netns(ctx),
        local: socket.local,
        remote: socket.remote,
        local_port: socket.local_port,
        remote_port: socket.remote_port,
        padding: 0,
    };
    // SAFETY: only this connection's own sockets write the entry; it is copied at once.
    let Some(origin) = (unsafe { HANDOVER.get(key) }).copied() else {
        return;
    };
    // SAFETY: the socket is the context's, and was found not to be null.
    let stored = unsafe { origin::set(socket.sk, &origin) };
    count(if stored {
        Counter::SockOpsHandoverTaken
    } else {
        Counter::SockOpsNoStorage
    });
    // That it is gone already is no error.
    let _ = HANDOVER.remove(key);
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, socket: &Socket) {
    let key = reversed(netns(ctx), socket);
    // That they are gone already is no error.
    let _ = LOCAL.remove(key);
    let _ = HANDOVER.remove(key);
}
