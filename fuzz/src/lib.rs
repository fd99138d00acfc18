//! What is fuzzed, and what must hold of it.
//!
//! An HTTP/2 connection: a [`peer`] that sends whatever it likes, an owner that does whatever the API
//! allows, and a [`watch`] over what must hold at all times. And [`policy`]: the engine beside a reference.

pub mod peer;
pub mod policy;
pub mod watch;
