//! The policy engine against its documented rules: properties on random policies, the golden table, and
//! that a decision does not allocate.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod allocation;
mod cover;
mod plaintext;
mod properties;
mod random;
mod reference;
mod table;
