//! Counting: one number for each reason and processor.

use mesh_common::abi::Counter;

use crate::maps::COUNTERS;

/// Adds one.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this processor and lives as long as the map.
        unsafe { *slot = (*slot).wrapping_add(1) };
    }
}
