//! The rules of one group of policies and one action, found by what a connection has.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::keys::{Key, Kind, Kinds, Values, guards};
use super::{Connection, Policy};

/// A rule: the number of its policy in the group, and its number in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) policy: u32,
    pub(super) rule: u32,
}

/// Rules in the order of their places. Which of them can match a connection is looked up, not searched.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Place>,
    /// Numbers of the rules that nothing guards.
    unguarded: Vec<u32>,
    guarded: HashMap<u64, Vec<u32>, BuildHasherDefault<Hashed>>,
    kinds: Kinds,
    /// The lengths of source blocks that occur, IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

impl Table {
    /// The table of the rules of those policies, which are given with their numbers.
    pub(super) fn new<'a>(policies: impl Iterator<Item = (usize, &'a Arc<Policy>)>) -> Self {
        let mut table = Self::default();
        let mut candidates = Vec::new();
        let mut used: HashMap<Key, u32> = HashMap::new();
        for (number, policy) in policies {
            for (rule, content) in policy.rules.iter().enumerate() {
                let place = Place {
                    policy: number as u32,
                    rule: rule as u32,
                };
                table.places.push(place);
                let guards = guards(content, policy.action);
                for key in guards.iter().flatten() {
                    *used.entry(*key).or_default() += 1;
                }
                candidates.push(guards);
            }
        }
        for (number, guards) in candidates.iter().enumerate() {
            // The guard whose values fewest rules share: what all rules have in common tells nothing.
            let shared = |guard: &&Vec<Key>| -> u64 {
                let users = |key: &Key| u64::from(used.get(key).copied().unwrap_or(0));
                guard.iter().map(users).sum()
            };
            match guards.iter().min_by_key(shared) {
                None => table.unguarded.push(number as u32),
                Some(guard) => table.file(number as u32, guard),
            }
        }
        table
            .lengths
            .iter_mut()
            .for_each(|lengths| lengths.sort_unstable());
        table
    }

    fn file(&mut self, number: u32, guard: &[Key]) {
        for key in guard {
            self.kinds.insert(key.kind);
            if let Some((v6, length)) = key.block {
                let lengths = &mut self.lengths[usize::from(v6)];
                if !lengths.contains(&length) {
                    lengths.push(length);
                }
            }
            let numbers = self.guarded.entry(key.hash).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
    }

    pub(super) fn kinds(&self) -> Kinds {
        self.kinds
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The first rule that matches.
    pub(super) fn first(
        &self,
        members: &[Arc<Policy>],
        conn: &Connection<'_>,
        values: &Values,
    ) -> Option<Place> {
        let mut first = u32::MAX;
        self.candidates(values, |numbers| {
            for number in numbers.iter().take_while(|number| **number < first) {
                if self.matches(*number, members, conn) {
                    first = *number;
                    break;
                }
            }
        });
        self.places.get(first as usize).copied()
    }

    /// Every rule that matches, in order.
    pub(super) fn all(
        &self,
        members: &[Arc<Policy>],
        conn: &Connection<'_>,
        values: &Values,
    ) -> Vec<Place> {
        let mut found = Vec::new();
        self.candidates(values, |numbers| {
            let matching = numbers
                .iter()
                .filter(|number| self.matches(**number, members, conn));
            found.extend(matching.filter_map(|number| self.places.get(*number as usize)));
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    fn matches(&self, number: u32, members: &[Arc<Policy>], conn: &Connection<'_>) -> bool {
        self.places.get(number as usize).is_some_and(|place| {
            members.get(place.policy as usize).is_some_and(|policy| {
                let rule = policy.rules.get(place.rule as usize);
                rule.is_some_and(|rule| rule.matches(conn, policy.action))
            })
        })
    }

    /// Calls `visit` with lists of rules, each in order, that together hold every rule that can match.
    fn candidates(&self, values: &Values, mut visit: impl FnMut(&[u32])) {
        visit(&self.unguarded);
        let mut look_up = |hash: u64| {
            if let Some(numbers) = self.guarded.get(&hash) {
                visit(numbers);
            }
        };
        let principal = [Kind::Principal, Kind::Anonymous];
        if principal.iter().any(|kind| self.kinds.contains(*kind)) {
            look_up(values.get(Kind::Principal));
        }
        for kind in [Kind::Account, Kind::Namespace, Kind::Port] {
            if self.kinds.contains(kind) {
                look_up(values.get(kind));
            }
        }
        for length in &self.lengths[usize::from(values.is_v6())] {
            look_up(values.block(*length));
        }
    }
}

/// Passes on a number that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
