//! What the Weft programs share.
//!
//! [`abi`] is the layout of the BPF maps: `no_std`, used by the eBPF programs and by the agent.
//! Everything else is the pure, synchronous core (feature `user`): identities, the policy decision,
//! the load-balancing choice and the wire types. The agent enforces with it, the controller compiles
//! and lints with it: same code, same verdict.
#![cfg_attr(not(feature = "user"), no_std)]

pub mod abi;
#[cfg(feature = "user")]
pub mod admin;
#[cfg(feature = "user")]
pub mod decode;
#[cfg(feature = "user")]
pub mod identity;
#[cfg(feature = "user")]
pub mod lb;
#[cfg(feature = "user")]
pub mod policy;
#[cfg(feature = "user")]
pub mod proto;
#[cfg(feature = "user")]
pub mod question;
#[cfg(feature = "user")]
pub mod snapshot;
#[cfg(feature = "user")]
pub mod suggest;
#[cfg(feature = "user")]
pub mod workload;
