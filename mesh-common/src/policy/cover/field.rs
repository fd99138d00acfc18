//! What is asked of one field, and what follows from it.

use ipnet::IpNet;

use crate::policy::matches::{ServiceAccountMatch, StringMatch};

/// A pattern of a field's values.
pub(super) trait Pattern: Clone {
    /// Whether every value that `other` matches is matched here.
    fn covers(&self, other: &Self) -> bool;
    /// Whether no value matches both; false when that is not known.
    fn excludes(&self, other: &Self) -> bool;
}

/// Lists of which each must match, and patterns of which none may.
#[derive(Clone, Debug)]
pub(super) struct Field<T> {
    any: Vec<Vec<T>>,
    none: Vec<T>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

impl<T: Pattern> Field<T> {
    /// Asks for one of `any` as well, if it lists something, and for none of `none`.
    pub(super) fn add(&mut self, any: &[T], none: &[T]) {
        if !any.is_empty() {
            self.any.push(any.to_vec());
        }
        self.none.extend_from_slice(none);
    }

    /// Whether some value is asked for.
    pub(super) fn is_asked(&self) -> bool {
        !self.any.is_empty()
    }

    pub(super) fn none(&self) -> &[T] {
        &self.none
    }

    /// Drops from each list what the rest of the field rules out. False when nothing is left of one.
    pub(super) fn reduce(&mut self) -> bool {
        let before = self.any.clone();
        for (n, list) in self.any.iter_mut().enumerate() {
            list.retain(|pattern| {
                let refused = self.none.iter().any(|no| no.covers(pattern));
                let others = before.iter().enumerate().filter(|(m, _)| *m != n);
                let mut lists = others.map(|(_, other)| other);
                !refused && !lists.any(|other| other.iter().all(|o| o.excludes(pattern)))
            });
        }
        self.any.iter().all(|list| !list.is_empty())
    }

    /// Whether a value that meets this matches one of `list`; true when it lists nothing.
    pub(super) fn implies_any(&self, list: &[T]) -> bool {
        let covered = |own: &T| list.iter().any(|pattern| pattern.covers(own));
        list.is_empty() || self.any.iter().any(|own| own.iter().all(covered))
    }

    /// Whether a value that meets this matches none of `list`.
    pub(super) fn implies_none(&self, list: &[T]) -> bool {
        list.iter().all(|pattern| {
            let excluded = |own: &Vec<T>| own.iter().all(|o| o.excludes(pattern));
            self.none.iter().any(|no| no.covers(pattern)) || self.any.iter().any(excluded)
        })
    }
}

impl StringMatch {
    /// Whether every string matches that is not empty, and no field is.
    pub(super) fn is_everything(&self) -> bool {
        match self {
            Self::Presence => true,
            Self::Prefix(text) | Self::Suffix(text) => text.is_empty(),
            Self::Exact(_) => false,
        }
    }
}

impl Pattern for StringMatch {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            _ if self.is_everything() => true,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Prefix(a), Self::Exact(b) | Self::Prefix(b)) => b.starts_with(&**a),
            (Self::Suffix(a), Self::Exact(b) | Self::Suffix(b)) => b.ends_with(&**a),
            _ => false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => {
                !pattern.matches(Some(text))
            }
            (Self::Prefix(a), Self::Prefix(b)) => !a.starts_with(&**b) && !b.starts_with(&**a),
            (Self::Suffix(a), Self::Suffix(b)) => !a.ends_with(&**b) && !b.ends_with(&**a),
            _ => false,
        }
    }
}

impl Pattern for ServiceAccountMatch {
    fn covers(&self, other: &Self) -> bool {
        self == other
    }

    fn excludes(&self, other: &Self) -> bool {
        self != other
    }
}

impl Pattern for IpNet {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }

    /// Blocks are nested or have nothing in common.
    fn excludes(&self, other: &Self) -> bool {
        !self.contains(other) && !other.contains(self)
    }
}

impl Pattern for u16 {
    fn covers(&self, other: &Self) -> bool {
        self == other
    }

    fn excludes(&self, other: &Self) -> bool {
        self != other
    }
}
