//! Where objects come from. A source hands over consistent, valid [`Objects`], then whole ones again
//! or changes to them: never a part of a change, and never anything that had a problem.

mod directory;
mod document;
mod kinds;
mod kubernetes;
mod options;
mod problem;
mod scan;
mod watch;

pub use directory::read;
pub use kubernetes::{KubernetesSource, WatchMetrics};
pub use options::{Choice, ChoiceError, SourceOptions};
pub use problem::{Problem, Problems};
pub use watch::DirectorySource;

#[cfg(test)]
mod tests;

use crate::model::{Change, Objects};

/// Takes what a source finds.
pub trait Sink: Send {
    /// Everything that there is, in place of what was before: a first or a renewed read.
    fn replace(&mut self, objects: Objects);
    /// What changed since, as one consistent step, in order.
    fn change(&mut self, changes: Vec<Change>);
}
