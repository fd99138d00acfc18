//! One lab at a time: tests that make a lab take this first, so that they do not share two cores.

use std::sync::{Mutex, MutexGuard, PoisonError};

static LAB: Mutex<()> = Mutex::new(());

/// Waits until no other test of this process uses the lab.
pub fn serial() -> MutexGuard<'static, ()> {
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}
