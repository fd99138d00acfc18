//! Equal values share one allocation: labels, accounts and owners are the same on many pods.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values that nobody else holds are dropped when there are twice as many as after the last time.
const FIRST_SWEEP: usize = 1024;

#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized + Eq + Hash> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The shared value that equals this one.
    pub(super) fn get<B>(&mut self, value: B) -> Arc<T>
    where
        B: AsRef<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.values.get(value.as_ref()) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (2 * self.values.len()).max(FIRST_SWEEP);
        }
        let value: Arc<T> = value.into();
        self.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut names = Interner::<str>::default();
        let kept = names.get("kept");
        assert!(Arc::ptr_eq(&kept, &names.get("kept")));
        for i in 0..10 * FIRST_SWEEP {
            names.get(i.to_string());
        }
        assert!(names.values.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &names.get("kept")));
    }
}
