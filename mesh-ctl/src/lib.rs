//! The Weft controller, and `meshctl`.
//!
//! Data flows one way: [`source`] reads objects, [`model`] validates them, [`compile`] turns them
//! into versioned [`resources`], and [`xds`] tells each node what changed. Beside it [`ca`] signs, for
//! a caller that [`auth`] verified, only identities that run on the caller's node.
//!
//! [`meshctl`] is the operator's program; it shares the model of the configuration.

pub mod auth;
pub mod ca;
pub mod compile;
pub mod config;
pub mod controller;
pub mod kubernetes;
pub mod lease;
pub mod memory;
pub mod meshctl;
pub mod metrics;
pub mod model;
pub mod resources;
pub mod serve;
pub mod source;
pub mod xds;
