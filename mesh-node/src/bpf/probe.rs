//! What the data path needs of the kernel, and whether it is there.

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{
    BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported,
};
use aya::util::KernelVersion;
use std::fmt;
use std::net::UdpSocket;

use crate::sys::sock_diag::can_destroy;

/// When a feature is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it there is no data path.
    Always,
    /// With `--same-node direct`.
    SameNodeDirect,
}

/// One thing that the data path needs.
#[derive(Clone, Debug)]
pub struct Feature {
    /// When it is needed.
    pub need: Need,
    /// What it is, and what for.
    pub name: &'static str,
    /// The kernel version or option that brings it.
    pub brought_by: &'static str,
    /// Whether it is there, or why that cannot be told.
    pub present: Result<bool, String>,
}

/// What this kernel offers to this process.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Everything that is needed, in the order of the check.
    pub features: Vec<Feature>,
}

impl Probe {
    /// What is needed then, and is missing or could not be checked, each with what brings it.
    #[must_use]
    pub fn missing(&self, need: Need) -> Vec<String> {
        let describe = |feature: &Feature| match &feature.present {
            Ok(true) => None,
            Ok(false) => Some(format!("{} ({})", feature.name, feature.brought_by)),
            Err(why) => Some(format!(
                "{} ({}; check failed: {why})",
                feature.name, feature.brought_by
            )),
        };
        self.features
            .iter()
            .filter(|feature| feature.need == need)
            .filter_map(describe)
            .collect()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for feature in &self.features {
            let found = match &feature.present {
                Ok(true) => "yes".to_owned(),
                Ok(false) => "MISSING".to_owned(),
                Err(why) => format!("unknown ({why})"),
            };
            writeln!(f, "{:<9} {} [{}]", found, feature.name, feature.brought_by)?;
        }
        Ok(())
    }
}

/// Asks the kernel.
#[must_use]
pub fn probe() -> Probe {
    let mut features = vec![
        feature(
            "permission to load BPF programs",
            "CAP_BPF and CAP_NET_ADMIN, or root",
            may_load(),
        ),
        feature("bpffs, for pins", "CONFIG_BPF_SYSCALL", filesystem("bpf")),
        feature("cgroup v2", "CONFIG_CGROUPS", filesystem("cgroup2")),
        feature("SO_NETNS_COOKIE", "Linux 5.14", netns_cookie()),
        feature(
            "ingress_ifindex in sk_lookup, to know loopback",
            "Linux 5.17",
            kernel_at_least(5, 17),
        ),
    ];
    features.extend(PROGRAMS.iter().map(|&(name, brought_by, kind)| {
        feature(
            name,
            brought_by,
            is_program_supported(kind).map_err(program_reason),
        )
    }));
    features.extend(MAPS.iter().map(|&(name, brought_by, kind)| {
        feature(
            name,
            brought_by,
            is_map_supported(kind).map_err(|e| call_reason(&e)),
        )
    }));
    features.extend(HELPERS.iter().map(|&(name, brought_by, kind, helper)| {
        feature(
            name,
            brought_by,
            is_helper_supported(kind, helper).map_err(program_reason),
        )
    }));
    features.push(Feature {
        need: Need::SameNodeDirect,
        ..feature(
            "ending sockets by force, for --same-node direct",
            "CONFIG_INET_DIAG_DESTROY",
            can_destroy().map_err(|e| e.to_string()),
        )
    });
    Probe { features }
}

const PROGRAMS: [(&str, &str, ProgramType); 3] = [
    (
        "cgroup connect and getpeername programs",
        "Linux 5.8, CONFIG_CGROUP_BPF",
        ProgramType::CgroupSockAddr,
    ),
    (
        "sock_ops programs",
        "Linux 4.13, CONFIG_CGROUP_BPF",
        ProgramType::SockOps,
    ),
    (
        "sk_lookup programs",
        "Linux 5.9, CONFIG_INET",
        ProgramType::SkLookup,
    ),
];

const MAPS: [(&str, &str, MapType); 6] = [
    ("hash maps", "Linux 3.19, CONFIG_BPF_SYSCALL", MapType::Hash),
    (
        "LRU hash maps",
        "Linux 4.10, CONFIG_BPF_SYSCALL",
        MapType::LruHash,
    ),
    (
        "LPM tries",
        "Linux 4.11, CONFIG_BPF_SYSCALL",
        MapType::LpmTrie,
    ),
    (
        "socket hash maps",
        "Linux 5.6 for listeners, CONFIG_BPF_STREAM_PARSER",
        MapType::SockHash,
    ),
    (
        "socket storage",
        "Linux 5.2, CONFIG_DEBUG_INFO_BTF or CONFIG_BPF_SYSCALL",
        MapType::SkStorage,
    ),
    (
        "ring buffers",
        "Linux 5.8, CONFIG_BPF_SYSCALL",
        MapType::RingBuf,
    ),
];

const HELPERS: [(&str, &str, ProgramType, BpfHelper); 5] = [
    (
        "bpf_get_netns_cookie in connect",
        "Linux 5.7, CONFIG_NET_NS",
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_get_netns_cookie,
    ),
    (
        "bpf_get_netns_cookie in sock_ops",
        "Linux 5.15, CONFIG_NET_NS",
        ProgramType::SockOps,
        BpfHelper::BPF_FUNC_get_netns_cookie,
    ),
    (
        "bpf_get_current_ancestor_cgroup_id in connect",
        "Linux 5.7, CONFIG_CGROUPS",
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id,
    ),
    (
        "bpf_sk_storage_get in sock_ops",
        "Linux 5.2, CONFIG_NET",
        ProgramType::SockOps,
        BpfHelper::BPF_FUNC_sk_storage_get,
    ),
    (
        "bpf_sk_assign in sk_lookup",
        "Linux 5.9, CONFIG_INET",
        ProgramType::SkLookup,
        BpfHelper::BPF_FUNC_sk_assign,
    ),
];

fn feature(name: &'static str, brought_by: &'static str, present: Result<bool, String>) -> Feature {
    Feature {
        need: Need::Always,
        name,
        brought_by,
        present,
    }
}

fn program_reason(error: ProgramError) -> String {
    match error {
        ProgramError::SyscallError(e) => call_reason(&e),
        other => other.to_string(),
    }
}

fn call_reason(error: &SyscallError) -> String {
    format!("{}: {}", error.call, error.io_error)
}

fn may_load() -> Result<bool, String> {
    match is_program_supported(ProgramType::CgroupSockAddr) {
        Err(ProgramError::SyscallError(e))
            if e.io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(false)
        }
        _ => Ok(true),
    }
}

fn kernel_at_least(major: u8, minor: u8) -> Result<bool, String> {
    let current = KernelVersion::current().map_err(|e| e.to_string())?;
    Ok(current >= KernelVersion::new(major, minor, 0))
}

fn filesystem(name: &str) -> Result<bool, String> {
    let known = std::fs::read_to_string("/proc/filesystems").map_err(|e| e.to_string())?;
    Ok(known
        .lines()
        .any(|line| line.split_whitespace().last() == Some(name)))
}

fn netns_cookie() -> Result<bool, String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).map_err(|e| e.to_string())?;
    Ok(crate::sys::netns_cookie(&socket).is_ok())
}
