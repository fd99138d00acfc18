//! Tells the agent's own processes: those in its cgroup and below it.
//!
//! Neither the exact cgroup (a sub-cgroup would be captured, in a loop) nor a socket mark (any
//! process with `CAP_NET_RAW` sets one) would do.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use mesh_common::abi::MAX_CGROUP_DEPTH;

use crate::maps::AGENT;

/// Whether the current process is the agent. Meaningful only in programs run by a system call.
#[inline(always)]
pub(crate) fn is_agent() -> bool {
    let Some(agent) = AGENT.get(0) else {
        return false;
    };
    let wanted = agent.cgroup;
    for level in 0..MAX_CGROUP_DEPTH {
        // SAFETY: the helper takes any level, and answers zero below the process's own.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if id == wanted {
            return true;
        }
    }
    false
}
