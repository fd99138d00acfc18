//! What changed when: the names of each step, for a bounded number of steps and names.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A segment is copied when a step is added to it, so it has no more steps than this,
const SEGMENT: usize = 64;
/// and takes no more of them once it has so many names.
const SEGMENT_NAMES: usize = 1024;
const SEGMENTS: usize = 128;
/// Names are remembered while they are no more than this, or than the table has.
const NAMES: usize = 16 << 10;

#[derive(Clone, Debug)]
struct Step {
    generation: u64,
    at: Instant,
    names: Arc<[Arc<str>]>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    steps: Vec<Step>,
    names: usize,
}

/// The last steps. A clone costs a pointer for each segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    segments: VecDeque<Arc<Segment>>,
    names: usize,
    /// Steps up to this generation are forgotten.
    floor: u64,
}

/// The names of the steps after a generation.
pub(super) struct Since {
    /// Each once, sorted.
    pub(super) names: BTreeSet<Arc<str>>,
    /// When the first of those steps came.
    pub(super) at: Option<Instant>,
}

impl Log {
    /// Forgets everything up to that generation.
    pub(super) fn begin(generation: u64) -> Self {
        Self {
            floor: generation,
            ..Self::default()
        }
    }

    /// Adds a step; `live` is how many resources there are.
    pub(super) fn push(&mut self, generation: u64, at: Instant, names: Vec<Arc<str>>, live: usize) {
        let full = |segment: &Arc<Segment>| {
            segment.steps.len() >= SEGMENT || segment.names >= SEGMENT_NAMES
        };
        if self.segments.back().is_none_or(full) {
            self.segments.push_back(Arc::default());
        }
        self.names += names.len();
        if let Some(last) = self.segments.back_mut() {
            let last = Arc::make_mut(last);
            last.names += names.len();
            last.steps.push(Step {
                generation,
                at,
                names: names.into(),
            });
        }
        while self.segments.len() > SEGMENTS
            || self.segments.len() > 1 && self.names > NAMES.max(live)
        {
            let Some(gone) = self.segments.pop_front() else {
                break;
            };
            self.names -= gone.names;
            self.floor = gone.steps.last().map_or(self.floor, |s| s.generation);
        }
    }

    /// What changed after that generation; `None` when it is too long ago to tell.
    pub(super) fn since(&self, generation: u64) -> Option<Since> {
        if generation < self.floor {
            return None;
        }
        let steps = self
            .segments
            .iter()
            .rev()
            .flat_map(|s| s.steps.iter().rev());
        let mut since = Since {
            names: BTreeSet::new(),
            at: None,
        };
        for step in steps.take_while(|step| step.generation > generation) {
            since.names.extend(step.names.iter().cloned());
            since.at = Some(step.at);
        }
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(log: &Log, generation: u64) -> Option<Vec<String>> {
        let since = log.since(generation)?;
        Some(since.names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_forgotten_is_admitted() {
        let mut log = Log::begin(1);
        let limit = (SEGMENT * SEGMENTS) as u64;
        for generation in 2..limit + 3 {
            let name = Arc::from(format!("{generation:06}"));
            log.push(generation, Instant::now(), vec![name], 0);
        }
        assert_eq!(names(&log, limit + 2), Some(vec![]));
        assert_eq!(
            names(&log, limit),
            Some(vec!["008193".into(), "008194".into()])
        );
        assert_eq!(names(&log, 1), None, "a whole segment went");
        assert!(names(&log, 1 + SEGMENT as u64).is_some());
    }

    #[test]
    fn names_are_bounded_by_what_is_live() {
        let mut log = Log::begin(0);
        let many: Vec<Arc<str>> = (0..NAMES).map(|i| Arc::from(i.to_string())).collect();
        for generation in 1..=5 {
            log.push(generation, Instant::now(), many.clone(), 0);
        }
        assert_eq!(
            (log.segments.len(), log.names),
            (1, NAMES),
            "the last stays"
        );
        assert!(names(&log, 3).is_none() && names(&log, 4).is_some());
    }
}
