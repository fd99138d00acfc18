//! The controller as nodes meet it: over TLS, with tokens, in a real process' runtime.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod certificates;
mod clients;
mod discovery;
mod fixture;
mod rotation;
