//! What a script learns from the exit code.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for was done or shown.
    Success = 0,
    /// Nothing could be done or shown.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Some agents or controllers did not answer; what the others said was shown.
    Partial = 3,
    /// There is nothing of that name.
    NotFound = 4,
    /// It was done, and what was looked for was found: a warning, a denial, a finding. Only commands and
    /// options that say so end with this.
    Findings = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
