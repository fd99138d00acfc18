//! The lab: nodes and pods as network namespaces and cgroups on one machine, real applications inside
//! them, packet capture between them, and the mesh's own programs on top.
//!
//! Whatever the lab makes carries its name (`weft-lab-<id>`) and goes away with it: on drop, on panic,
//! on SIGINT and SIGTERM, and, after a `kill -9`, when the next lab starts.

mod bpffs;
mod cgroup;
mod id;
mod ip;
mod keeper;
mod owner;
mod signals;

pub mod access_log;
pub mod agent;
pub mod apps;
pub mod balancer;
pub mod bench;
pub mod caller;
pub mod capture;
pub mod config;
pub mod controller;
pub mod demo;
pub mod http;
pub mod janitor;
pub mod kubernetes;
pub mod load;
pub mod mesh;
pub mod netns;
pub mod pcap;
pub mod peer;
pub mod place;
pub mod process;
pub mod programs;
pub mod serial;
pub mod shell;
pub mod svid;
pub mod tokens;
pub mod topology;
pub mod usage;
pub mod wait;

mod objects;

pub use id::LabId;
pub use topology::{Lab, Node, Pod};
