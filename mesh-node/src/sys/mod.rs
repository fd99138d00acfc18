//! System calls that need care: network namespaces, readiness, and the few BPF calls that aya does not
//! offer.
//!
//! Everything here is a safe interface; this is the only module of the agent with `unsafe` blocks.
#![allow(
    unsafe_code,
    reason = "calls that no safe library offers, each with its argument"
)]

mod addresses;
pub mod bpf;
mod memory;
mod netlink;
mod netns;
pub mod sock_diag;
mod watch;

pub use addresses::{AddressChanges, interface_addresses, node_addresses};
pub use memory::release_unused;
pub use netns::{Netns, netns_cookie};
pub use watch::{watch_arrival, watch_listener, watch_stream};
