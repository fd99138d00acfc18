//! Connections in the clear that no policy could allow, as the agent says by pod and port.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use mesh_common::abi::{FlowKey, NOT_REFUSED, RefusedKey};

use crate::maps::{REFUSED, REFUSED_COUNTS};

/// The slot in which to count a connection to this port that is refused; none when it is not.
#[inline(always)]
pub(crate) fn slot(netns: u64, port: u16) -> Option<u32> {
    // SAFETY: an entry that is replaced meanwhile reads as some entry; what it says for that instant is
    // refused as without an agent, or judged by the agent.
    let slot = match unsafe { REFUSED.get(RefusedKey::port(netns, port)) } {
        Some(slot) => *slot,
        // SAFETY: as above.
        None => *unsafe { REFUSED.get(RefusedKey::others(netns)) }?,
    };
    (slot != NOT_REFUSED).then_some(slot)
}

/// Counts a connection that is refused, and remembers where it came from.
#[inline(always)]
pub(crate) fn count(slot: u32, flow: &FlowKey) {
    let Some(of) = REFUSED_COUNTS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: the slot belongs to this processor and lives as long as the map.
    unsafe {
        let count = (&raw const (*of).count).read_volatile().wrapping_add(1);
        (&raw mut (*of).count).write_volatile(count);
        (&raw mut (*of).port).write_volatile(flow.local_port);
        (&raw mut (*of).source_port).write_volatile(flow.remote_port);
        for (word, value) in flow.remote.0.into_iter().enumerate() {
            (&raw mut (*of).source.0[word]).write_volatile(value);
        }
        (&raw mut (*of).time).write_volatile(bpf_ktime_get_boot_ns());
        (&raw mut (*of).told).write_volatile(count);
    }
}
