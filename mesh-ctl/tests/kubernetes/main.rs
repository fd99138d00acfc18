//! The Kubernetes source against a real API server (see `cargo xtask k8s`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod golden;
mod invalid;
mod readiness;
mod rights;
mod robustness;
mod status;
mod watching;
