//! Discovery: delta xDS over an aggregated stream.
//!
//! [`client`] is the state of one client, pure and tested without sockets; [`server`] is the thin
//! asynchronous shell around it.

mod admission;
mod body;
pub mod client;
pub mod message;
pub mod options;
pub mod server;
mod session;
pub mod status;
mod subscription;

#[cfg(test)]
mod tests;
