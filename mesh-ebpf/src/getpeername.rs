//! Shows an application the far end it would have without the mesh: to a server the true client, to a
//! client the destination it dialled. The agent sees the truth.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use mesh_common::abi::{Counter, Origin};

use crate::agent::is_agent;
use crate::counters::count;
use crate::maps::ORIGIN;
use crate::storage;

/// The only verdict that the kernel takes from these programs.
const ALLOW: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn weft_peername4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    let Some(origin) = shown_origin(&ctx) else {
        return ALLOW;
    };
    if !origin.address.is_ipv4() {
        count(Counter::PeernameFamily);
        return ALLOW;
    }
    // SAFETY: the context is valid for the program's run; these fields are writable here.
    unsafe {
        (&raw mut (*raw).user_ip4).write_volatile(origin.address.0[3]);
        (&raw mut (*raw).user_port).write_volatile(u32::from(origin.port.to_be()));
    }
    count(Counter::PeernameRewritten);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn weft_peername6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    let Some(origin) = shown_origin(&ctx) else {
        return ALLOW;
    };
    let address = origin.address.0;
    // SAFETY: the context is valid for the program's run; these fields are writable here.
    unsafe {
        (&raw mut (*raw).user_ip6[0]).write_volatile(address[0]);
        (&raw mut (*raw).user_ip6[1]).write_volatile(address[1]);
        (&raw mut (*raw).user_ip6[2]).write_volatile(address[2]);
        (&raw mut (*raw).user_ip6[3]).write_volatile(address[3]);
        (&raw mut (*raw).user_port).write_volatile(u32::from(origin.port.to_be()));
    }
    count(Counter::PeernameRewritten);
    ALLOW
}

/// The origin to show to the calling process, if there is one.
#[inline(always)]
fn shown_origin(ctx: &SockAddrContext) -> Option<Origin> {
    // SAFETY: the context is valid for the program's run, and its socket is never null here.
    let origin = unsafe {
        let sk = (&raw const (*ctx.sock_addr).__bindgen_anon_1.sk).read_volatile();
        storage::get(&ORIGIN, sk)
    };
    if origin.is_none() {
        count(Counter::PeernameNoOrigin);
        return None;
    }
    if is_agent() {
        count(Counter::PeernameAgent);
        return None;
    }
    origin.copied()
}
