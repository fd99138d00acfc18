//! Hands an origin from the connecting socket to the accepted one, and records the connects that
//! `sk_lookup` is to know from packets that only claim to be: a pod's to itself, and exempted ones.
//!
//! All are keyed by the exact tuple with the network namespace, written before the SYN leaves. They
//! are removed when the connecting socket closes: not earlier, because a SYN cookie makes the kernel
//! look the connection up again when the handshake ends.
//!
//! No other connects are recorded. A connect to another host needs no entry (its
//! socket is found before `sk_lookup` is asked), and none can be left behind for that host to use.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use mesh_common::abi::{Counter, Expected, ExpectedKind};

use crate::counters::count;
use crate::direct;
use crate::maps::{ENROLLED, EXPECTED, HANDOVER, ORIGIN};
use crate::socket::{Socket, netns};
use crate::storage;

const CONTINUE: u32 = 1;

#[sock_ops]
pub(crate) fn weft_sock_ops(ctx: SockOpsContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    let op = unsafe { (&raw const (*ctx.ops).op).read_volatile() };
    if op != BPF_SOCK_OPS_TCP_CONNECT_CB
        && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        && op != BPF_SOCK_OPS_STATE_CB
    {
        return CONTINUE;
    }
    let socket = Socket::read(&ctx);
    if socket.sk.is_null() {
        return CONTINUE;
    }
    if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        accepted(&ctx, &socket);
        return CONTINUE;
    }
    // SAFETY: the socket is the context's, and was found not to be null.
    let mark = unsafe { direct::mark(socket.sk) };
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        match mark {
            Some(mark) => direct::connecting(&ctx, &socket, mark),
            None => connecting(&ctx, &socket),
        }
    } else if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        if let Some(mark) = mark {
            direct::answered(&socket, mark);
        }
    } else if socket.new_state == BPF_TCP_CLOSE {
        match mark {
            Some(mark) => direct::closed(&ctx, &socket, mark),
            None => closed(&ctx, &socket),
        }
    }
    CONTINUE
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext, socket: &Socket) {
    let netns = netns(ctx);
    // SAFETY: an entry replaced meanwhile reads as the old or the new pod, both of this namespace.
    let Some(pod) = (unsafe { ENROLLED.get(netns) }) else {
        return;
    };
    let key = socket.connecting(netns);
    let mut recorded = false;
    if socket.remote == socket.local || pod.owns(&socket.remote) {
        let local = Expected::new(netns, ExpectedKind::Local);
        recorded = EXPECTED.insert(key, local, 0).is_ok();
        count(if recorded {
            Counter::SockOpsLocal
        } else {
            Counter::SockOpsLocalFailed
        });
    }
    // SAFETY: the socket is the context's, and was found not to be null.
    if let Some(origin) = unsafe { storage::get(&ORIGIN, socket.sk) } {
        let left = HANDOVER.insert(key, origin, 0).is_ok();
        count(if left {
            Counter::SockOpsHandoverLeft
        } else {
            Counter::SockOpsHandoverFailed
        });
        recorded |= left;
    }
    if recorded {
        socket.watch_state(ctx);
    }
}

#[inline(always)]
fn accepted(ctx: &SockOpsContext, socket: &Socket) {
    let key = socket.accepted(netns(ctx));
    // SAFETY: only this connection's own sockets write the entries; they are copied at once.
    let (origin, expected) = unsafe { (HANDOVER.get(key).copied(), EXPECTED.get(key).copied()) };
    if let Some(origin) = origin {
        // SAFETY: the socket is the context's, and was found not to be null.
        let stored = unsafe { storage::set(&ORIGIN, socket.sk, &origin) };
        count(if stored {
            Counter::SockOpsHandoverTaken
        } else {
            Counter::SockOpsNoStorage
        });
        // That it is gone already is no error.
        let _ = HANDOVER.remove(key);
    }
    if let Some(expected) = expected
        && expected.is_direct()
    {
        direct::accepted(ctx, socket, key, &expected);
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, socket: &Socket) {
    let key = socket.connecting(netns(ctx));
    // That they are gone already is no error.
    let _ = EXPECTED.remove(key);
    let _ = HANDOVER.remove(key);
}
