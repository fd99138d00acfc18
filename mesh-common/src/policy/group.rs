//! Policies that always apply together, compiled once.

use std::sync::{Arc, OnceLock};

use super::keys::{Kinds, Values};
use super::plaintext::InClear;
use super::table::{Place, Table};
use super::{Connection, Policy, PolicyAction};

/// Policies of one scope, in the order of their names. Its tables are made when they are first needed and
/// stay until a member changes.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: Vec<Arc<Policy>>,
    /// The first policy that is named and not there.
    missing: Option<Arc<str>>,
    tables: OnceLock<Tables>,
    in_clear: OnceLock<InClear>,
}

impl Clone for Group {
    /// A copy is made to be changed, so the tables stay behind.
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
            missing: self.missing.clone(),
            tables: OnceLock::new(),
            in_clear: OnceLock::new(),
        }
    }
}

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those that are enforced.
    Enforced,
    /// Those in dry run too.
    WithDryRun,
}

/// What the members of one kind (enforced, or in dry run) say.
#[derive(Debug, Default)]
struct Part {
    deny: Table,
    allow: Table,
    /// Numbers of the first policy that could not be read, and of the first ALLOW policy.
    unreadable: Option<u32>,
    first_allow: Option<u32>,
}

#[derive(Debug, Default)]
struct Tables {
    enforced: Part,
    dry_run: Part,
    audit: Table,
    kinds: Kinds,
    has_dry_run: bool,
}

impl Group {
    /// Those of `names`, which are in order, that are there.
    pub(super) fn named<'a>(
        names: impl Iterator<Item = &'a Arc<str>>,
        get: impl Fn(&str) -> Option<Arc<Policy>>,
    ) -> Self {
        let mut group = Self::default();
        for name in names {
            match get(name) {
                Some(policy) => group.members.push(policy),
                None if group.missing.is_none() => group.missing = Some(name.clone()),
                None => {}
            }
        }
        group
    }

    pub(super) fn insert(&mut self, policy: Arc<Policy>) {
        let at = self.members.partition_point(|other| other.key < policy.key);
        self.members.insert(at, policy);
        self.forget();
    }

    pub(super) fn remove(&mut self, key: &str) {
        let at = self.members.partition_point(|other| *other.key < *key);
        if self.members.get(at).is_some_and(|found| *found.key == *key) {
            self.members.remove(at);
            self.forget();
        }
    }

    /// Drops what was made of the members.
    fn forget(&mut self) {
        self.tables = OnceLock::new();
        self.in_clear = OnceLock::new();
    }

    pub(super) fn members(&self) -> &[Arc<Policy>] {
        &self.members
    }

    pub(super) fn missing(&self) -> Option<&Arc<str>> {
        self.missing.as_ref()
    }

    /// Makes the tables now.
    pub(super) fn compile(&self) {
        self.tables();
    }

    fn tables(&self) -> &Tables {
        self.tables.get_or_init(|| Tables::new(&self.members))
    }

    /// What the members say of connections in the clear. Made when it is first asked for.
    pub(super) fn in_clear(&self) -> &InClear {
        self.in_clear.get_or_init(|| InClear::new(&self.members))
    }

    /// What a connection must be asked for before the tables are.
    pub(super) fn kinds(&self) -> Kinds {
        self.tables().kinds
    }

    /// Whether a policy only reports: AUDIT, or in dry run.
    pub(super) fn reports(&self) -> bool {
        let tables = self.tables();
        tables.has_dry_run || !tables.audit.is_empty()
    }

    /// Whether a policy is in dry run.
    pub(super) fn has_dry_run(&self) -> bool {
        self.tables().has_dry_run
    }

    pub(super) fn unreadable(&self, counted: Counted) -> Option<&Arc<Policy>> {
        self.earliest(counted, |part| part.unreadable)
    }

    pub(super) fn first_allow(&self, counted: Counted) -> Option<&Arc<Policy>> {
        self.earliest(counted, |part| part.first_allow)
    }

    fn earliest(
        &self,
        counted: Counted,
        of: impl Fn(&Part) -> Option<u32>,
    ) -> Option<&Arc<Policy>> {
        let parts = self.tables().parts(counted);
        let first = parts.into_iter().flatten().filter_map(of).min()?;
        self.members.get(first as usize)
    }

    /// The first rule of a policy with that action that matches.
    pub(super) fn first(
        &self,
        action: PolicyAction,
        counted: Counted,
        conn: &Connection<'_>,
        values: &Values,
    ) -> Option<(&Arc<Policy>, usize)> {
        let tables = self.tables();
        let table = |part: &'_ Part| -> Option<Place> {
            let table = match action {
                PolicyAction::Allow => &part.allow,
                PolicyAction::Deny => &part.deny,
                PolicyAction::Audit => &tables.audit,
            };
            table.first(&self.members, conn, values)
        };
        let parts = tables.parts(counted).into_iter().flatten();
        self.at(parts.filter_map(table).min()?)
    }

    /// The first matching rule of each AUDIT policy.
    pub(super) fn audited(
        &self,
        conn: &Connection<'_>,
        values: &Values,
    ) -> impl Iterator<Item = (&Arc<Policy>, usize)> {
        let mut places = self.tables().audit.all(&self.members, conn, values);
        places.dedup_by_key(|place| place.policy);
        places.into_iter().filter_map(|place| self.at(place))
    }

    fn at(&self, place: Place) -> Option<(&Arc<Policy>, usize)> {
        let policy = self.members.get(place.policy as usize)?;
        Some((policy, place.rule as usize))
    }
}

impl Tables {
    fn new(members: &[Arc<Policy>]) -> Self {
        let with = |wanted: &dyn Fn(&Policy) -> bool| {
            Table::new(
                members
                    .iter()
                    .enumerate()
                    .filter(|(_, policy)| wanted(policy)),
            )
        };
        let part = |dry_run: bool| {
            let of = |action| with(&|policy| policy.dry_run == dry_run && policy.action == action);
            let first = |wanted: &dyn Fn(&Policy) -> bool| {
                let found = members
                    .iter()
                    .position(|policy| policy.dry_run == dry_run && wanted(policy));
                found.map(|number| number as u32)
            };
            Part {
                deny: of(PolicyAction::Deny),
                allow: of(PolicyAction::Allow),
                unreadable: first(&|policy| policy.unreadable),
                first_allow: first(&|policy| policy.action == PolicyAction::Allow),
            }
        };
        let mut tables = Self {
            enforced: part(false),
            dry_run: part(true),
            audit: with(&|policy| policy.action == PolicyAction::Audit),
            ..Self::default()
        };
        let all = [
            &tables.enforced.deny,
            &tables.enforced.allow,
            &tables.dry_run.deny,
            &tables.dry_run.allow,
            &tables.audit,
        ];
        tables.kinds = all
            .iter()
            .fold(Kinds::default(), |kinds, table| kinds.union(table.kinds()));
        let counts = |policy: &&Arc<Policy>| policy.dry_run && policy.action != PolicyAction::Audit;
        tables.has_dry_run = members.iter().any(|policy| counts(&policy));
        tables
    }

    fn parts(&self, counted: Counted) -> [Option<&Part>; 2] {
        let dry_run = (counted == Counted::WithDryRun).then_some(&self.dry_run);
        [Some(&self.enforced), dry_run]
    }
}
