//! The names of the policies that a workload lists.

use serde::{Serialize, Serializer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Names of policies, in order and each once. Cheap to clone, and to look up: the hash is computed once, and
/// two copies of one list are equal without comparing names.
#[derive(Clone, Debug)]
pub struct PolicyNames(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hash: u64,
    names: Box<[Arc<str>]>,
}

impl<S: Into<Arc<str>>> FromIterator<S> for PolicyNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        Self(Arc::new(Inner {
            hash: hasher.finish(),
            names: names.into(),
        }))
    }
}

impl PolicyNames {
    /// Whether the policy is listed.
    pub(super) fn lists(&self, key: &str) -> bool {
        self.binary_search_by(|name| (**name).cmp(key)).is_ok()
    }
}

impl Default for PolicyNames {
    fn default() -> Self {
        Self::from_iter([""; 0])
    }
}

impl Deref for PolicyNames {
    type Target = [Arc<str>];

    fn deref(&self) -> &[Arc<str>] {
        &self.0.names
    }
}

impl PartialEq for PolicyNames {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.names == other.0.names)
    }
}

impl Eq for PolicyNames {}

impl Hash for PolicyNames {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl Serialize for PolicyNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
