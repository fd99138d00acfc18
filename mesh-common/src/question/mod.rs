//! "Would A reach B, and why?", answered from the state that an agent holds.
//!
//! A [`Question`] is in an operator's words. It is resolved to clients and servers, each pair is judged by
//! the same engine that agents decide with, and pairs with equal results become one [`Case`] of the
//! [`Answer`]. What the mesh does before policy is part of it: who is enrolled, what is sent in the clear,
//! and where nothing is enforced at all.

mod answer;
mod error;
mod judge;
mod names;
mod notes;
mod source;
mod target;

pub use answer::{Answer, Case, Note, Outcome, Place, answer};
pub use error::{QuestionError, Side};
pub use judge::{Judged, Route, judge, nearest_rule};
pub use source::{Client, clients};
pub use target::{Server, Target, TargetKind, target};

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Question {
    /// The client: `NAMESPACE/SERVICE-ACCOUNT`, `NAMESPACE/POD` or an address. `sa:`, `pod:` and `ip:` before
    /// it say which.
    pub from: String,
    /// The server: `NAMESPACE/POD`, `NAMESPACE/SERVICE`, a service's hostname or an address. `pod:`, `svc:`,
    /// `host:` and `ip:` before it say which.
    pub to: String,
    /// The port that the client dials.
    pub port: u16,
}

#[cfg(test)]
mod tests;
