//! Discovery: delta xDS over an aggregated stream.
//!
//! [`client`] is the state of one client, pure and tested without sockets; [`server`] is the thin
//! asynchronous shell around it.

pub mod client;
pub mod server;
mod subscription;

#[cfg(test)]
mod tests;
