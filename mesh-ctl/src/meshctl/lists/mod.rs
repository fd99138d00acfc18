//! Lists of what agents know: filtered by namespace and name, merged over agents.

mod filter;
mod merge;

pub use filter::{Filter, Named, Selection};
pub use merge::{Listed, Merged, Object, merge, note_exceptions};

use serde::Serialize;

use super::reach::Unreachable;

/// A list, as JSON and YAML show it.
#[derive(Debug, Serialize)]
pub struct List<'a, T> {
    /// What was found.
    pub items: &'a [T],
    /// Who did not answer: there may be more.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unreachable: &'a [Unreachable],
}
