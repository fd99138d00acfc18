//! What is known of one kind, by name: just enough to tell what a renewed list changed.

use std::collections::HashMap;

use super::decode::{Decoded, Outcome};
use crate::model::{Change, ObjectName};

/// The objects of one kind.
#[derive(Default)]
pub(super) struct Held {
    entries: HashMap<ObjectName, Entry>,
    /// Counts the lists: an entry of an earlier one is gone.
    round: u64,
    invalid: usize,
}

struct Entry {
    version: Box<str>,
    round: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A good version of it was handed on.
    Good,
    /// A good version was handed on, and stays although the newest is invalid.
    Kept,
    /// It never was good: a stand-in was handed on, or nothing.
    NeverGood,
    /// It says nothing to the mesh: nothing was handed on.
    Unused,
}

/// What came of an object.
pub(super) struct Taken {
    /// What to hand on.
    pub(super) change: Option<Change>,
    /// Its problem, the first time that this version is seen.
    pub(super) problem: Option<Problem>,
}

/// Why an object is not used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The field and the remedy.
    pub(super) text: String,
    /// What is in force in its place.
    pub(super) instead: &'static str,
}

impl Held {
    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// The list is complete: what it did not have is gone.
    pub(super) fn finish(&mut self, kind: &'static str) -> Vec<Change> {
        let round = self.round;
        let gone: Vec<ObjectName> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.round != round)
            .map(|(name, _)| name.clone())
            .collect();
        gone.into_iter()
            .filter_map(|name| self.remove(kind, name))
            .collect()
    }

    /// Takes an object in, of a list or an event.
    pub(super) fn take(&mut self, kind: &'static str, decoded: Decoded) -> Taken {
        let nothing = Taken {
            change: None,
            problem: None,
        };
        let before = self.entries.get_mut(&decoded.name).map(|entry| {
            entry.round = self.round;
            (entry.version == decoded.version, entry.state)
        });
        if let Some((true, _)) = before {
            return nothing;
        }
        let state = before.map(|(_, state)| state);
        let had_good = matches!(state, Some(State::Good | State::Kept));
        let (state, taken) = match decoded.outcome {
            Outcome::Used(object) => (
                State::Good,
                Taken {
                    change: Some(Change::Set(object)),
                    ..nothing
                },
            ),
            Outcome::Unused => (
                State::Unused,
                Taken {
                    change: state
                        .is_some_and(|state| state != State::Unused)
                        .then(|| Change::Removed(kind, decoded.name.clone())),
                    ..nothing
                },
            ),
            Outcome::Invalid { problem, closed } => {
                let instead = match (&closed, had_good) {
                    (_, true) => "its last good version stays in force",
                    (Some(_), false) => "what it is for is denied until it is valid",
                    (None, false) => "it is left out",
                };
                let problem = Some(Problem {
                    text: problem,
                    instead,
                });
                let change = closed.filter(|_| !had_good).map(Change::Set);
                let state = if had_good {
                    State::Kept
                } else {
                    State::NeverGood
                };
                (state, Taken { change, problem })
            }
        };
        let entry = Entry {
            version: decoded.version,
            round: self.round,
            state,
        };
        self.invalid += usize::from(entry.is_invalid());
        let old = self.entries.insert(decoded.name, entry);
        self.invalid -= old.map_or(0, |old| usize::from(old.is_invalid()));
        taken
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, kind: &'static str, name: ObjectName) -> Option<Change> {
        let entry = self.entries.remove(&name)?;
        self.invalid -= usize::from(entry.is_invalid());
        (entry.state != State::Unused).then_some(Change::Removed(kind, name))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are invalid.
    pub(super) fn invalid(&self) -> usize {
        self.invalid
    }
}

impl Entry {
    fn is_invalid(&self) -> bool {
        matches!(self.state, State::Kept | State::NeverGood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;

    fn decoded(name: &str, version: &str, outcome: Outcome) -> Decoded {
        Decoded {
            name: ObjectName::new("ns", name),
            version: version.into(),
            generation: 1,
            outcome,
        }
    }

    fn used(name: &str, version: &str) -> Decoded {
        let object = Object::ServiceAccount(ObjectName::new("ns", name));
        decoded(name, version, Outcome::Used(object))
    }

    fn invalid(name: &str, version: &str, closed: bool) -> Decoded {
        let object = Object::ServiceAccount(ObjectName::new("ns", name));
        let outcome = Outcome::Invalid {
            problem: "field x: is wrong".into(),
            closed: closed.then_some(object),
        };
        decoded(name, version, outcome)
    }

    fn removed(changes: &[Change]) -> Vec<String> {
        let name = |change: &Change| match change {
            Change::Removed(_, name) => name.to_string(),
            Change::Set(object) => panic!("set: {object:?}"),
        };
        changes.iter().map(name).collect()
    }

    #[test]
    fn a_renewed_list_tells_only_what_is_different() {
        let mut held = Held::default();
        held.begin();
        for name in ["a", "b", "c"] {
            assert!(held.take("K", used(name, "1")).change.is_some());
        }
        assert!(held.finish("K").is_empty());

        held.begin();
        assert!(held.take("K", used("a", "1")).change.is_none());
        assert!(held.take("K", used("b", "2")).change.is_some());
        assert_eq!(removed(&held.finish("K")), ["ns/c"]);
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn a_list_that_breaks_off_removes_nothing() {
        let mut held = Held::default();
        held.begin();
        held.take("K", used("a", "1"));
        held.take("K", used("b", "1"));
        held.finish("K");
        held.begin();
        held.take("K", used("a", "1"));
        held.begin();
        held.take("K", used("b", "1"));
        held.take("K", used("a", "1"));
        assert!(held.finish("K").is_empty());
    }

    #[test]
    fn an_invalid_version_leaves_the_good_one_in_force() {
        let mut held = Held::default();
        held.take("K", used("a", "1"));
        let taken = held.take("K", invalid("a", "2", true));
        assert!(taken.change.is_none());
        assert!(taken.problem.unwrap().instead.contains("last good"));
        assert_eq!(held.invalid(), 1);
        let again = held.take("K", invalid("a", "2", true));
        assert!(again.problem.is_none(), "it is reported once");
        assert!(held.take("K", used("a", "3")).change.is_some());
        assert_eq!(held.invalid(), 0);
    }

    #[test]
    fn what_was_never_good_is_stood_in_for_and_goes_as_it_came() {
        let mut held = Held::default();
        let taken = held.take("K", invalid("a", "1", true));
        assert!(matches!(taken.change, Some(Change::Set(_))));
        let name = ObjectName::new("ns", "a");
        assert!(matches!(
            held.remove("K", name.clone()),
            Some(Change::Removed("K", _))
        ));
        assert!(held.remove("K", name).is_none());
        assert_eq!((held.len(), held.invalid()), (0, 0));
    }

    #[test]
    fn what_the_mesh_stops_using_is_removed() {
        let mut held = Held::default();
        held.take("K", used("a", "1"));
        let taken = held.take("K", decoded("a", "2", Outcome::Unused));
        assert_eq!(
            removed(&taken.change.into_iter().collect::<Vec<_>>()),
            ["ns/a"]
        );
        assert!(held.remove("K", ObjectName::new("ns", "a")).is_none());
        let taken = held.take("K", decoded("b", "1", Outcome::Unused));
        assert!(taken.change.is_none());
    }
}
