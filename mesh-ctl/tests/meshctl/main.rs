//! `meshctl` and Kubernetes: a real API server, agents behind kubelets that the tests play, and all that
//! can stand in the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod cluster;
mod forwarding;
mod install;
mod kubeconfig;
mod kubelet;
mod rights;
mod run;
mod terminal;
mod uninstall;
