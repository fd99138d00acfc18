//! What can go wrong between the agent and the kernel.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::io;
use std::path::PathBuf;

/// Why the data path could not be put in place or changed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel lacks features.
    #[error("this kernel cannot run the data path; it lacks {}", .0.join("; "))]
    Kernel(Vec<String>),
    /// The directory for pins is not in a bpffs.
    #[error("{0} is not in a mounted bpffs: mount one there or above (mount -t bpf bpf DIR)")]
    NotBpffs(PathBuf),
    /// A pin or its directory cannot be made, opened or removed.
    #[error("{0}: {1}")]
    Pin(PathBuf, #[source] io::Error),
    /// The cgroup is none of version 2, or cannot be read.
    #[error("{0}: {1}")]
    Cgroup(PathBuf, #[source] io::Error),
    /// The agent shares its cgroup with what it captures, or is outside of it.
    #[error(
        "the agent must run in a cgroup of its own below {0}: it is told apart from the applications \
         by its cgroup"
    )]
    AgentCgroup(PathBuf),
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Load(#[source] Box<EbpfError>),
    /// One program is refused.
    #[error("cannot load the eBPF program {0}: {1}")]
    Program(&'static str, #[source] Box<ProgramError>),
    /// One program cannot be attached.
    #[error("cannot attach the eBPF program {0} to {1}: {2}")]
    Attach(&'static str, String, #[source] io::Error),
    /// A map cannot be read or changed.
    #[error("map {0}: {1}")]
    Map(&'static str, #[source] Box<MapError>),
    /// A pinned map is of another layout.
    #[error(
        "the pinned map {0} has another layout than this agent's: run `mesh-node uninstall` with \
         this bpffs directory first"
    )]
    Layout(PathBuf),
    /// More entries are wanted than the map can take.
    #[error("map {0} is full: it takes {1} entries")]
    Full(&'static str, u32),
    /// A pod has no address.
    #[error("the pod has no IP address")]
    NoAddress,
    /// A pod has too many addresses.
    #[error("the pod has {0} addresses; at most {max} are supported", max = mesh_common::abi::MAX_POD_ADDRESSES)]
    TooManyAddresses(usize),
}

impl DatapathError {
    pub(super) fn map(name: &'static str, source: MapError) -> Self {
        Self::Map(name, Box::new(source))
    }

    pub(super) fn program(name: &'static str, source: ProgramError) -> Self {
        Self::Program(name, Box::new(source))
    }
}
