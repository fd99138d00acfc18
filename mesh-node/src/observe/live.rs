//! The connections that are open now, at either end, for the operator.
//!
//! An entry shares what the connection's record holds already: it is a few words long, and looking at it
//! costs the connection nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Parties, Traffic};

/// One open connection.
#[derive(Clone, Debug)]
pub struct Open {
    /// Who talks to whom.
    pub parties: Arc<Parties>,
    /// What it has carried so far.
    pub traffic: Arc<Traffic>,
    /// When it was opened.
    pub since: Instant,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: HashMap<u64, Open>,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<Mutex<Entries>>);

/// An entry's number, by which it is taken out again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(u64);

impl Live {
    pub(super) fn insert(&self, open: Open) -> Number {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        entries.open.insert(number, open);
        Number(number)
    }

    pub(super) fn remove(&self, number: Number) {
        self.lock().open.remove(&number.0);
    }

    /// What is open now, oldest first.
    pub(super) fn list(&self) -> Vec<Open> {
        let mut list: Vec<_> = self.lock().open.values().cloned().collect();
        list.sort_by_key(|open| open.since);
        list
    }

    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
