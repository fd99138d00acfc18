//! Streams that were reset here, and on which the peer may not have stopped sending yet.

use super::StreamId;
use std::collections::VecDeque;

/// How many are known one by one.
const REMEMBERED: usize = 256;

/// What still comes on these streams is no fault of the peer's: it is dropped without a word (RFC 9113
/// section 5.1, "closed").
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// The last ones, oldest first.
    recent: VecDeque<StreamId>,
    /// The highest that is not remembered any more. Up to it, every closed stream gets the benefit of the
    /// doubt.
    forgotten: StreamId,
}

impl Resets {
    pub(super) fn insert(&mut self, id: StreamId) {
        if self.recent.len() == REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.recent.push_back(id);
    }

    /// Whether this closed stream was, or may have been, reset here.
    pub(super) fn covers(&self, id: StreamId) -> bool {
        id <= self.forgotten || self.recent.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_resets_takes_bounded_memory_and_is_covered() {
        let mut resets = Resets::default();
        for id in (1..20_000).step_by(2) {
            assert!(!resets.covers(id));
            resets.insert(id);
            assert!(resets.recent.len() <= REMEMBERED);
        }
        assert!((1..20_000).step_by(2).all(|id| resets.covers(id)));
        assert!(!resets.covers(20_001));
        // One in between that was not reset is known as such.
        assert!(!resets.covers(19_998));
    }
}
