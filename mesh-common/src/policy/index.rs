//! All policies, and those that apply to one workload.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::group::Group;
use super::names::PolicyNames;
use super::table::Hashed;
use super::{Policy, Scope};

/// Every policy by name and by scope, and the lists of policies that workloads have.
///
/// Policies that apply together (those of the mesh, of a namespace, of a workload's list) are compiled
/// together: a change compiles anew only the groups that it touches, and copies of the index share the
/// rest. What is found is always in the order of the names, so that a decision does not depend on the
/// order of arrival.
#[derive(Clone, Debug, Default)]
pub struct PolicyIndex {
    by_key: Arc<BTreeMap<Arc<str>, Arc<Policy>>>,
    global: Arc<Group>,
    by_namespace: Arc<BTreeMap<Arc<str>, Arc<Group>>>,
    by_list: Arc<Lists>,
}

type Lists = HashMap<PolicyNames, List, BuildHasherDefault<Hashed>>;

/// A list of names that workloads have.
#[derive(Clone, Debug)]
struct List {
    users: usize,
    group: Arc<Group>,
}

impl PolicyIndex {
    /// Adds a policy, or replaces the one of the same name.
    pub fn upsert(&mut self, policy: Policy) {
        self.take(&policy.key);
        let policy = Arc::new(policy);
        match policy.scope {
            Scope::Global => Arc::make_mut(&mut self.global).insert(policy.clone()),
            Scope::Namespace => {
                let groups = Arc::make_mut(&mut self.by_namespace);
                let group = groups.entry(policy.namespace.clone()).or_default();
                Arc::make_mut(group).insert(policy.clone());
            }
            Scope::Selector => {}
        }
        let key = policy.key.clone();
        Arc::make_mut(&mut self.by_key).insert(key.clone(), policy);
        self.resolve(&key);
    }

    /// Removes the policy `namespace/name`, if it is there.
    pub fn remove(&mut self, key: &str) {
        if self.take(key) {
            self.resolve(key);
        }
    }

    /// Removes a policy, except from lists that name it.
    fn take(&mut self, key: &str) -> bool {
        if !self.by_key.contains_key(key) {
            return false;
        }
        let Some(policy) = Arc::make_mut(&mut self.by_key).remove(key) else {
            return false;
        };
        match policy.scope {
            Scope::Global => Arc::make_mut(&mut self.global).remove(key),
            Scope::Namespace => {
                let groups = Arc::make_mut(&mut self.by_namespace);
                if let Some(group) = groups.get_mut(&policy.namespace) {
                    Arc::make_mut(group).remove(key);
                    if group.members().is_empty() {
                        groups.remove(&policy.namespace);
                    }
                }
            }
            Scope::Selector => {}
        }
        true
    }

    /// Makes anew the lists that name a policy.
    fn resolve(&mut self, key: &str) {
        if !self.by_list.keys().any(|names| names.lists(key)) {
            return;
        }
        let by_key = &self.by_key;
        let lists = Arc::make_mut(&mut self.by_list);
        for (names, list) in lists.iter_mut().filter(|(names, _)| names.lists(key)) {
            list.group = Arc::new(group_of(by_key, names));
        }
    }

    /// Notes that a workload has this list, so that it is compiled once for all that have it. To be given
    /// back with [`PolicyIndex::release`].
    pub fn retain(&mut self, names: &PolicyNames) -> PolicyNames {
        if names.is_empty() {
            return names.clone();
        }
        let group = match self.by_list.get(names) {
            Some(list) => list.group.clone(),
            None => Arc::new(group_of(&self.by_key, names)),
        };
        let lists = Arc::make_mut(&mut self.by_list);
        let list = lists
            .entry(names.clone())
            .or_insert(List { users: 0, group });
        list.users += 1;
        lists
            .get_key_value(names)
            .map_or_else(|| names.clone(), |(known, _)| known.clone())
    }

    /// Notes that a workload no longer has this list.
    pub fn release(&mut self, names: &PolicyNames) {
        if !self.by_list.contains_key(names) {
            return;
        }
        let lists = Arc::make_mut(&mut self.by_list);
        if let Some(list) = lists.get_mut(names) {
            list.users -= 1;
            if list.users == 0 {
                lists.remove(names);
            }
        }
    }

    /// Compiles now what changed, so that no decision has to.
    pub fn compile(&self) {
        self.global.compile();
        self.by_namespace.values().for_each(|group| group.compile());
        self.by_list.values().for_each(|list| list.group.compile());
    }

    /// The policy `namespace/name`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Policy>> {
        self.by_key.get(key)
    }

    /// All policies, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.by_key.values()
    }

    /// The policies of a workload in `namespace` that lists those in `names`. It costs nothing when the list
    /// is retained; another one is compiled here.
    #[must_use]
    pub fn of(&self, namespace: &str, names: &PolicyNames) -> PolicySet<'_> {
        let listed = match self.by_list.get(names) {
            _ if names.is_empty() => None,
            Some(list) => Some(Cow::Borrowed(&*list.group)),
            None => Some(Cow::Owned(group_of(&self.by_key, names))),
        };
        PolicySet {
            global: &self.global,
            namespace: self.by_namespace.get(namespace).map(|group| &**group),
            listed,
        }
    }
}

fn group_of(by_key: &BTreeMap<Arc<str>, Arc<Policy>>, names: &PolicyNames) -> Group {
    Group::named(names.iter(), |key| by_key.get(key).cloned())
}

/// The policies that apply to one workload.
#[derive(Clone, Debug)]
pub struct PolicySet<'a> {
    global: &'a Group,
    namespace: Option<&'a Group>,
    listed: Option<Cow<'a, Group>>,
}

impl PolicySet<'_> {
    /// Those of the mesh, of the namespace, and those listed.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        let global = std::iter::once(self.global);
        global.chain(self.namespace).chain(self.listed.as_deref())
    }

    /// Whether an AUDIT policy, or one in dry run, is among them.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.groups().any(Group::reports)
    }

    /// The first policy that the workload names and that is not there.
    #[must_use]
    pub fn missing(&self) -> Option<&Arc<str>> {
        self.groups().find_map(Group::missing)
    }

    /// Every policy that applies and is there, each once: those of the mesh, of the namespace, those listed;
    /// by name within each.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        let wide = self.global.members().iter();
        let wide = wide.chain(self.namespace.map_or(&[][..], Group::members));
        let listed = self.listed.as_deref().map_or(&[][..], Group::members);
        let again = |policy: &Arc<Policy>| match policy.scope {
            Scope::Global => self
                .global
                .members()
                .iter()
                .any(|other| Arc::ptr_eq(other, policy)),
            Scope::Namespace => {
                let members = self.namespace.map_or(&[][..], Group::members);
                members.iter().any(|other| Arc::ptr_eq(other, policy))
            }
            Scope::Selector => false,
        };
        wide.chain(listed.iter().filter(move |policy| !again(policy)))
    }
}
