//! Where objects come from. A source hands over whole, consistent, valid [`Objects`]: never a part
//! of a change, and never anything from a read that had a problem.

mod directory;
mod document;
mod kinds;
mod problem;
mod scan;
mod watch;

pub use directory::read;
pub use problem::{Problem, Problems};
pub use watch::DirectorySource;

#[cfg(test)]
mod tests;

use crate::model::Objects;

/// Called with each good read.
pub trait Sink: Send {
    /// Takes the objects over.
    fn accept(&mut self, objects: Objects);
}

impl<F: FnMut(Objects) + Send> Sink for F {
    fn accept(&mut self, objects: Objects) {
        self(objects);
    }
}
