//! What changes.

use std::collections::HashMap;

use mesh_common::policy::NearMiss;
use serde::Serialize;

use super::effect::{Effect, State};
use crate::meshctl::policy::offline::Offline;

/// How a flow changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// It was allowed, or in part, and is less so.
    Closes,
    /// It was denied, or in part, and is less so.
    Opens,
    /// It is as allowed as before, by another policy or on another way.
    OtherReason,
    /// There was nothing to connect to, or nobody.
    Appears,
    /// There will be nothing to connect to, or nobody.
    Disappears,
}

/// What becomes of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Outcome {
    /// What becomes of its connections; more than one when they differ.
    pub(super) effects: Vec<Effect>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gone: Option<String>,
}

/// Flows to the same place that change in the same way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    pub(super) kind: Kind,
    /// The clients.
    pub(super) from: Vec<String>,
    /// The server.
    pub(super) to: String,
    /// The port; none for every port that no workload declares and no policy names.
    pub(super) port: Option<u16>,
    /// How many connections were seen; the number of flows where none were.
    pub(super) connections: usize,
    pub(super) before: Outcome,
    pub(super) after: Outcome,
    /// The rule that comes nearest to allowing it after, if it is denied because none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nearest: Option<NearMiss>,
}

/// What the comparison found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// How many flows were judged.
    pub(super) flows: usize,
    /// Seen connections to places that neither directory knows.
    pub(super) skipped: usize,
    pub(super) changes: Vec<Change>,
    /// Where the policies were read from that decide what changes: before, and after.
    pub(super) origins: [std::collections::BTreeMap<String, String>; 2],
    #[serde(skip)]
    at: HashMap<Key, usize>,
}

type Key = (String, Option<u16>, Outcome, Outcome);

impl Report {
    pub(super) fn judged(&mut self, flows: usize) {
        self.flows += flows;
    }

    pub(super) fn skipped(&mut self, connections: usize) {
        self.skipped += connections;
    }

    /// Notes the flow if it changes.
    pub(super) fn compare(
        &mut self,
        from: &str,
        to: &str,
        port: Option<u16>,
        before: State,
        after: State,
        connections: usize,
    ) {
        if before.is_same(&after) {
            return;
        }
        let kind = kind(&before, &after);
        // A port that stands for others says nothing of what is wanted.
        let nearest = after.nearest.clone().filter(|_| port.is_some());
        let (before, after) = (Outcome::of(before), Outcome::of(after));
        let key = (to.to_owned(), port, before.clone(), after.clone());
        match self.at.get(&key) {
            Some(at) => {
                let change = &mut self.changes[*at];
                change.connections += connections;
                if !change.from.iter().any(|known| known == from) {
                    change.from.push(from.to_owned());
                }
            }
            None => {
                self.at.insert(key, self.changes.len());
                self.changes.push(Change {
                    kind,
                    from: vec![from.to_owned()],
                    to: to.to_owned(),
                    port,
                    connections,
                    before,
                    after,
                    nearest,
                });
            }
        }
    }

    /// What is most worth reading first, and where the policies are.
    pub(super) fn finish(&mut self, old: &Offline, new: &Offline) {
        self.changes.sort_by(|a, b| {
            (a.kind, &a.to, a.port, &a.from).cmp(&(b.kind, &b.to, b.port, &b.from))
        });
        for change in &self.changes {
            let sides = [(&change.before, old), (&change.after, new)];
            for ((outcome, side), origins) in sides.into_iter().zip(&mut self.origins) {
                for policy in outcome.effects.iter().filter_map(|e| e.policy.as_ref()) {
                    if !origins.contains_key(&**policy)
                        && let Some(origin) = side.origin(policy)
                    {
                        origins.insert(policy.to_string(), origin);
                    }
                }
            }
        }
    }
}

impl Outcome {
    fn of(state: State) -> Self {
        let mut effects = state.effects;
        effects
            .sort_by(|a, b| (a.allowed, a.route, &a.policy).cmp(&(b.allowed, b.route, &b.policy)));
        Self {
            effects,
            gone: state.gone,
        }
    }
}

/// Denied is 0, in part 1, allowed 2.
fn allowed(state: &State) -> u8 {
    let all = state.effects.iter().all(|effect| effect.allowed);
    let some = state.effects.iter().any(|effect| effect.allowed);
    u8::from(all) + u8::from(some)
}

fn kind(before: &State, after: &State) -> Kind {
    match (&before.gone, &after.gone) {
        (Some(_), None) => Kind::Appears,
        (None, Some(_)) => Kind::Disappears,
        _ => match allowed(before).cmp(&allowed(after)) {
            std::cmp::Ordering::Greater => Kind::Closes,
            std::cmp::Ordering::Less => Kind::Opens,
            std::cmp::Ordering::Equal => Kind::OtherReason,
        },
    }
}
