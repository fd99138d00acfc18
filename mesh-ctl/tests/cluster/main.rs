//! What the controller keeps in Kubernetes, against an API server in this process that stores objects,
//! answers conflicts, lets itself be watched, and can be told to fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod bundle;
mod lease;
mod replicas;
mod review;
mod secret;
mod wait;
