//! Who sends next on a tunnel that has no room for everybody.

use mesh_http2::StreamId;
use std::collections::VecDeque;

/// Streams that wait to send: first come, first served, one at a time, one read each.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<StreamId>,
    current: Option<StreamId>,
}

impl Turns {
    /// Whether a stream may send now, if there is room: it is its turn, or nobody waits.
    pub(super) fn allow(&self, id: StreamId) -> bool {
        match self.current {
            Some(current) => current == id,
            None => self.waiting.is_empty(),
        }
    }

    /// Has a stream wait: behind the others, or before them if it was its turn.
    pub(super) fn wait(&mut self, id: StreamId) {
        if self.current == Some(id) {
            self.current = None;
            self.waiting.push_front(id);
        } else if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
    }

    /// Gives the turn to the stream that has waited longest, unless another has it still.
    pub(super) fn next(&mut self) -> Option<StreamId> {
        if self.current.is_none() {
            self.current = self.waiting.pop_front();
            return self.current;
        }
        None
    }

    /// A stream has had its turn, if it was its turn.
    pub(super) fn done(&mut self, id: StreamId) {
        if self.current == Some(id) {
            self.current = None;
        }
    }

    /// A stream is gone.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.done(id);
        self.waiting.retain(|waiting| *waiting != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_two() {
        let mut turns = Turns::default();
        assert!(turns.allow(1));
        for id in [1, 3, 5, 3] {
            turns.wait(id);
        }
        assert!(!turns.allow(1) && !turns.allow(7), "others wait");
        let mut order = Vec::new();
        for _ in 0..6 {
            let id = turns.next().unwrap();
            assert_eq!(turns.next(), None, "one at a time");
            assert!(turns.allow(id) && !turns.allow(7));
            order.push(id);
            turns.done(id);
            // It has more to send.
            turns.wait(id);
        }
        assert_eq!(order, [1, 3, 5, 1, 3, 5]);
    }

    #[test]
    fn a_turn_without_room_is_not_lost() {
        let mut turns = Turns::default();
        turns.wait(1);
        turns.wait(3);
        assert_eq!(turns.next(), Some(1));
        turns.wait(1);
        assert_eq!(turns.next(), Some(1));
    }

    #[test]
    fn a_stream_that_is_gone_holds_up_nobody() {
        let mut turns = Turns::default();
        for id in [1, 3, 5] {
            turns.wait(id);
        }
        assert_eq!(turns.next(), Some(1));
        turns.forget(1);
        turns.forget(3);
        assert_eq!(turns.next(), Some(5));
        turns.forget(5);
        assert!(turns.allow(7));
        assert_eq!(turns.next(), None);
    }
}
