//! Tells the agent's own processes: those in its cgroup and below it.
//!
//! Neither the exact cgroup (a sub-cgroup would be captured, in a loop) nor a socket mark (any
//! process with `CAP_NET_RAW` sets one) would do. While one agent takes over from another, both are told.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use mesh_common::abi::{MAX_AGENTS, MAX_CGROUP_DEPTH};

use crate::maps::AGENT;

/// Whether the current process is the agent. Meaningful only in programs run by a system call.
#[inline(always)]
pub(crate) fn is_agent() -> bool {
    let agent = |slot| AGENT.get(slot).map_or(0, |agent| agent.cgroup);
    let agents: [u64; MAX_AGENTS as usize] = [agent(0), agent(1), agent(2), agent(3)];
    for level in 0..MAX_CGROUP_DEPTH {
        // SAFETY: the helper takes any level, and answers zero below the process's own.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if id == agents[0] || id == agents[1] || id == agents[2] || id == agents[3] {
            return true;
        }
    }
    false
}
