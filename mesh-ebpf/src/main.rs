//! The eBPF programs of Weft: they steer TCP connections to the agent, and decide only what it has decided
//! for them.
//!
//! Together they guarantee that a TCP connection of an enrolled pod, in either direction, goes to the
//! agent's listeners in that pod, or fails: a lookup that misses never lets one through. Who may
//! talk to whom is decided by the agent, on the identity of the TLS session.
//!
//! Context fields are read once, volatile and before any branch: left alone, the compiler merges
//! loads across branches into ones the verifier refuses.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "BPF helpers and contexts are raw pointers")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya gives a program its context by value"
)]

mod agent;
mod connect;
mod counters;
mod direct;
mod getpeername;
mod maps;
mod refused;
mod sk_lookup;
mod sock_ops;
mod socket;
mod storage;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// None of the helpers in use is reserved to GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
