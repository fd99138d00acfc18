//! Shared objects as keys.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The same object, not one that looks the same. Holding it keeps its address from being used again.
#[derive(Debug)]
pub(super) struct Same<T: ?Sized>(pub(super) Option<Arc<T>>);

impl<T: ?Sized> Same<T> {
    fn address(&self) -> *const () {
        self.0
            .as_ref()
            .map_or(std::ptr::null(), |shared| Arc::as_ptr(shared).cast())
    }
}

impl<T: ?Sized> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.address(), other.address())
    }
}

impl<T: ?Sized> Eq for Same<T> {}

impl<T: ?Sized> Hash for Same<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}
