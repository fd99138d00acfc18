//! The data path on the running kernel: real sockets, real namespaces, one pod, one stranger and an
//! agent that only says what it sees. Needs root, and says so.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step fails the test, and the line says which"
)]

mod app;
mod direct;
mod inbound;
mod lab;
mod lifecycle;
mod outbound;
mod refused;
