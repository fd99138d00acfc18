//! Changes that are handed on together, and when.
//!
//! A batch waits a moment for more, so that what was written together is seen together. While the watch
//! of a policy kind is behind, nothing is handed on: a new workload must not be seen before the policies
//! that were written with it. That wait is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::resource::{self, rank};
use crate::model::{Change, ObjectName};

/// How long a first change waits for others.
const GATHER: Duration = Duration::from_millis(10);
/// A batch of this many changes waits no longer.
const FULL: usize = 4096;
/// Policies are waited for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was not handed on yet.
#[derive(Default)]
pub(super) struct Batch {
    /// The last change of each object.
    changes: BTreeMap<(&'static str, ObjectName), Change>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Since when each policy kind is behind, by its place in [`resource::ALL`].
    behind: BTreeMap<usize, Instant>,
    /// When the last of them caught up.
    caught_up: Option<Instant>,
}

impl Batch {
    /// Adds changes; a newer one of the same object takes the older one's place.
    pub(super) fn add(&mut self, changes: Vec<Change>, now: Instant) {
        for change in changes {
            let key = match &change {
                Change::Set(object) => {
                    let (kind, name) = object.identity();
                    (kind, name.clone())
                }
                Change::Removed(kind, name) => (*kind, name.clone()),
            };
            self.changes.insert(key, change);
            self.since.get_or_insert(now);
        }
    }

    /// A kind's watch was lost.
    pub(super) fn behind(&mut self, kind: usize, now: Instant) {
        if resource::ALL[kind].policy {
            self.behind.entry(kind).or_insert(now);
        }
    }

    /// A kind's watch is there again, and what was missed was added.
    pub(super) fn current(&mut self, kind: usize, now: Instant) {
        if self.behind.remove(&kind).is_some() {
            self.caught_up = Some(now);
        }
    }

    /// When the batch is to be handed on; `None` when there is nothing to hand on.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let patience = self.behind.values().max().map(|lost| *lost + PATIENCE);
        if self.changes.len() >= FULL && patience.is_none() {
            return Some(since);
        }
        let gathered = since.max(self.caught_up.unwrap_or(since)) + GATHER;
        Some(patience.map_or(gathered, |patience| patience.max(gathered)))
    }

    /// Everything, in an order in which no workload comes before the policies for it.
    pub(super) fn take(&mut self) -> Vec<Change> {
        self.since = None;
        self.caught_up = None;
        let mut changes: Vec<Change> = std::mem::take(&mut self.changes).into_values().collect();
        changes.sort_by_key(rank);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;

    fn account(name: &str) -> Change {
        Change::Set(Object::ServiceAccount(ObjectName::new("ns", name)))
    }

    fn removed(kind: &'static str, name: &str) -> Change {
        Change::Removed(kind, ObjectName::new("ns", name))
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let show = |change: &Change| match change {
            Change::Set(object) => format!("+{}", object.identity().0),
            Change::Removed(kind, _) => format!("-{kind}"),
        };
        changes.iter().map(show).collect()
    }

    fn place(kind: &str) -> usize {
        let all = &resource::ALL;
        all.iter()
            .position(|resource| resource.kind == kind)
            .unwrap()
    }

    #[test]
    fn the_first_change_sets_the_time() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        assert_eq!(batch.due(), None);
        batch.add(vec![account("a")], start);
        batch.add(vec![account("b")], start + GATHER / 2);
        assert_eq!(batch.due(), Some(start + GATHER));
        assert_eq!(batch.take().len(), 2);
        assert_eq!(batch.due(), None);
    }

    #[test]
    fn only_the_last_change_of_an_object_counts() {
        let mut batch = Batch::default();
        let changes = vec![account("a"), removed("ServiceAccount", "a")];
        batch.add(changes, Instant::now());
        assert_eq!(shown(&batch.take()), ["-ServiceAccount"]);
    }

    #[test]
    fn policies_come_first_and_go_last() {
        let mut batch = Batch::default();
        let changes = vec![
            removed("Pod", "p"),
            removed("AuthorizationPolicy", "x"),
            account("a"),
            removed("Namespace", "n"),
        ];
        batch.add(changes, Instant::now());
        assert_eq!(
            shown(&batch.take()),
            [
                "-Namespace",
                "+ServiceAccount",
                "-Pod",
                "-AuthorizationPolicy"
            ]
        );
    }

    #[test]
    fn nothing_is_handed_on_while_policies_are_behind_but_not_for_ever() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        let policies = place("AuthorizationPolicy");
        batch.behind(policies, start);
        let later = start + Duration::from_secs(1);
        batch.add(vec![account("a")], later);
        assert_eq!(batch.due(), Some(start + PATIENCE));
        // Losing it again while it is lost does not start the wait anew.
        batch.behind(policies, later);
        assert_eq!(batch.due(), Some(start + PATIENCE));
        let back = later + Duration::from_secs(1);
        batch.current(policies, back);
        assert_eq!(
            batch.due(),
            Some(back + GATHER),
            "what it missed may still come"
        );
    }

    #[test]
    fn other_kinds_are_not_waited_for() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        batch.behind(place("Node"), start);
        batch.add(vec![account("a")], start);
        assert_eq!(batch.due(), Some(start + GATHER));
    }
}
