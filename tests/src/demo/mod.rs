//! The demo: the mesh at work on real applications, and the evidence for each claim.
//!
//! Every row states what must happen, does it, and compares; nothing is taken from the mesh's own word
//! that can be seen from outside (the applications' answers and logs, the packets).

mod failure;
mod ipv6;
mod leave;
mod plaintext;
mod policy;
mod report;
mod tunnel;
mod world;

pub use report::{Report, Row};
pub use world::World;

use crate::agent::Sabotage;
use anyhow::Result;

/// Builds the world and runs every row.
pub fn run(sabotage: Option<Sabotage>) -> Result<(World, Report)> {
    let mut world = World::build(sabotage)?;
    let mut report = Report::new();
    tunnel::rows(&mut world, &mut report);
    ipv6::rows(&mut world, &mut report);
    policy::rows(&mut world, &mut report);
    plaintext::rows(&mut world, &mut report);
    leave::rows(&mut world, &mut report);
    failure::rows(&mut world, &mut report);
    Ok((world, report))
}
