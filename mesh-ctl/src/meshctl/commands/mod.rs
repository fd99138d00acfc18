//! One file for each command.

pub mod certificates;
pub mod completion;
pub mod config_dump;
pub mod connections;
pub mod log;
pub mod policies;
pub mod services;
pub mod status;
pub mod version;
pub mod workloads;

mod again;
mod views;
