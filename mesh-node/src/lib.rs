//! The node agent: captures the traffic of enrolled pods, carries it in mutual TLS, and decides
//! policy on the identity that TLS proved.
//!
//! Data flows one way: capture ([`bpf`], [`proxy`]) -> identify -> authorize -> tunnel ([`hbone`],
//! [`tls`]). [`state`] reaches the stages as watch receivers; [`observe`] takes records and never
//! calls back. [`direct`] lets pods of this node do without tunnels, where that is wanted, [`refuse`] has the
//! kernel refuse what no policy could allow. [`enroll`] adds and removes pods; [`agent`] puts the parts together.

pub mod admin;
pub mod agent;
pub mod bpf;
mod busy_poll;
pub mod cli;
pub mod cni;
pub mod config;
pub mod direct;
pub mod drain;
pub mod enroll;
pub mod hbone;
pub mod keeper;
pub mod limits;
pub mod logging;
mod node_addresses;
pub mod observe;
pub mod pod;
pub mod proxy;
pub mod refuse;
pub mod seqpacket;
pub mod socket;
pub mod state;
pub mod sys;
pub mod tls;
