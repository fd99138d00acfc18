//! A socket as `sock_ops` shows it, and the key of its connection.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::programs::SockOpsContext;
use mesh_common::abi::{Address, FlowKey};

const AF_INET: u32 = 2;

/// A socket, as the context shows it.
pub(crate) struct Socket {
    pub(crate) local: Address,
    pub(crate) remote: Address,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// Where a change of state leads from and to.
    pub(crate) old_state: u32,
    pub(crate) new_state: u32,
    pub(crate) sk: *mut bpf_sock,
    flags: u32,
}

impl Socket {
    /// The context's socket, which may be null.
    #[inline(always)]
    pub(crate) fn read(ctx: &SockOpsContext) -> Self {
        let raw = ctx.ops;
        // SAFETY: the context is valid for the program's run, and all these fields are always readable.
        let (family, local4, remote4, local6, remote6, local_port, remote_port, states, flags, sk) = unsafe {
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
                [
                    (&raw const (*raw).__bindgen_anon_1.args[0]).read_volatile(),
                    (&raw const (*raw).__bindgen_anon_1.args[1]).read_volatile(),
                ],
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
        Self {
            local,
            remote,
            local_port: local_port as u16,
            remote_port: u32::from_be(remote_port) as u16,
            old_state: states[0],
            new_state: states[1],
            flags,
            sk,
        }
    }

    /// The key of an accepted socket's connection, in its own network namespace.
    #[inline(always)]
    pub(crate) fn accepted(&self, netns: u64) -> FlowKey {
        FlowKey {
            netns,
            local: self.local,
            remote: self.remote,
            local_port: self.local_port,
            remote_port: self.remote_port,
            padding: 0,
        }
    }

    /// The key of a connecting socket's connection: as the accepting side, in `netns`, will see it.
    #[inline(always)]
    pub(crate) fn connecting(&self, netns: u64) -> FlowKey {
        FlowKey {
            netns,
            local: self.remote,
            remote: self.local,
            local_port: self.remote_port,
            remote_port: self.local_port,
            padding: 0,
        }
    }

    /// Has the changes of its state reported from now on.
    #[inline(always)]
    pub(crate) fn watch_state(&self, ctx: &SockOpsContext) {
        let flags = self.flags | BPF_SOCK_OPS_STATE_CB_FLAG;
        // SAFETY: the helper takes this program's context; a full socket takes the flag.
        let _ = unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, flags as i32) };
    }
}

/// The cookie of the socket's network namespace.
#[inline(always)]
pub(crate) fn netns(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes this program's context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}
