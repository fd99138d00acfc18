//! One file for each command.

pub mod completion;
pub mod version;
