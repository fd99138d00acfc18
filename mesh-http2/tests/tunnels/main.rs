//! Many tunnels at once, with random content, in random pieces and orders, from fixed seeds: against
//! the `h2` crate in both roles, and both our roles against each other.

mod endpoint;
mod interop;
mod library;
mod pipe;
mod plan;
mod simulation;
mod windows;
