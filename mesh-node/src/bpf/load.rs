//! Loads the programs with their maps: those of the captured cgroup once, `sk_lookup` for each pod.

use aya::maps::MapInfo;
use aya::programs::{CgroupSockAddr, Program, ProgramError, ProgramFd, SkLookup, SockOps};
use aya::{Ebpf, EbpfLoader};
use mesh_common::abi::{
    Address, Agent, DirectKey, DirectSocket, EnrolledPod, Exemption, Expected, FlowKey,
    ListenerKey, Origin, RefusedCount, RefusedKey, RefusedSlot, map, program,
};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::attach::{Target, attach_pinned};
use super::error::DatapathError;
use super::pins::{self, Pins};
use super::{DatapathOptions, cgroup, direct, refused, settings};
use crate::sys::bpf::AttachType;

/// The object that `build.rs` made of mesh-ebpf.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mesh-ebpf"));

const CGROUP_PROGRAMS: [(&str, AttachType); 5] = [
    // First what hands connections over, then what captures them.
    (program::SOCK_OPS, AttachType::SockOps),
    (program::GETPEERNAME4, AttachType::Getpeername4),
    (program::GETPEERNAME6, AttachType::Getpeername6),
    (program::CONNECT4, AttachType::Connect4),
    (program::CONNECT6, AttachType::Connect6),
];

/// Size of key and value of each map.
const LAYOUT: [(&str, usize, usize); map::ALL.len()] = [
    (map::ENROLLED, size_of::<u64>(), size_of::<EnrolledPod>()),
    (map::ORIGIN, size_of::<i32>(), size_of::<Origin>()),
    (map::HANDOVER, size_of::<FlowKey>(), size_of::<Origin>()),
    (map::EXPECTED, size_of::<FlowKey>(), size_of::<Expected>()),
    (map::LISTENERS, size_of::<ListenerKey>(), size_of::<u32>()),
    (map::NODE_ADDRESSES, size_of::<Address>(), size_of::<u8>()),
    (map::EXCLUDED_PORTS, size_of::<u16>(), size_of::<u8>()),
    (
        map::EXCLUDED_CIDRS,
        size_of::<u32>() + size_of::<Address>(),
        size_of::<u8>(),
    ),
    (map::AGENT, size_of::<u32>(), size_of::<Agent>()),
    (map::COUNTERS, size_of::<u32>(), size_of::<u64>()),
    (map::DIRECT, size_of::<DirectKey>(), size_of::<Exemption>()),
    (map::LEASE, size_of::<u32>(), size_of::<u64>()),
    (
        map::DIRECT_SOCKETS,
        size_of::<i32>(),
        size_of::<DirectSocket>(),
    ),
    (map::DIRECT_EVENTS, 0, 0),
    (map::REFUSED, size_of::<RefusedKey>(), size_of::<u32>()),
    (
        map::REFUSED_COUNTS,
        size_of::<u32>(),
        size_of::<RefusedCount>(),
    ),
    (
        map::REFUSED_SLOTS,
        size_of::<u32>(),
        size_of::<RefusedSlot>(),
    ),
];

/// Every byte, to point at: the loader takes constants by reference and outlives each pod.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

/// A program in the kernel.
pub(super) type Loaded = ProgramFd;

/// Loads programs, all onto the same pinned maps. Kept for as long as the agent runs: making one
/// parses the types of the whole kernel, for longer than everything else takes.
pub(super) struct Loader {
    inner: EbpfLoader<'static>,
    pins: Pins,
}

impl Loader {
    /// A loader that makes the maps in the sizes asked for, unless they are pinned already.
    pub(super) fn new(pins: &Pins, options: &DatapathOptions) -> Result<Self, DatapathError> {
        check_pinned_maps(pins)?;
        let mut inner = EbpfLoader::new();
        // The programs use none of the kernel's own types.
        inner.btf(None);
        for name in map::ALL {
            inner.map_pin_path(name, pins.map(name));
        }
        inner
            .map_max_entries(map::ENROLLED, options.max_pods)
            .map_max_entries(map::LISTENERS, options.max_pods.saturating_mul(2))
            .map_max_entries(map::HANDOVER, options.max_flows)
            .map_max_entries(map::EXPECTED, options.max_flows)
            .map_max_entries(map::DIRECT, direct::MAX_EXEMPTIONS)
            .map_max_entries(map::DIRECT_EVENTS, direct::RING_BYTES)
            .map_max_entries(map::REFUSED, refused::entries(options.max_pods))
            .map_max_entries(map::REFUSED_COUNTS, refused::slots(options.max_pods))
            .map_max_entries(map::REFUSED_SLOTS, refused::slots(options.max_pods))
            .map_max_entries(map::NODE_ADDRESSES, settings::CAPACITY)
            .map_max_entries(map::EXCLUDED_PORTS, settings::CAPACITY)
            .map_max_entries(map::EXCLUDED_CIDRS, settings::CAPACITY);
        Ok(Self {
            inner,
            pins: pins.clone(),
        })
    }

    /// Loads the cgroup's programs and attaches them; in place of an earlier agent's, if there are
    /// any.
    pub(super) fn attach_to_cgroup(&mut self, cgroup: &Path) -> Result<(), DatapathError> {
        let mut object = self.object()?;
        let directory = File::open(cgroup)
            .map_err(|source| DatapathError::Cgroup(cgroup.to_owned(), source))?;
        let target = Target {
            name: cgroup.display().to_string(),
            fd: directory.as_fd(),
            id: cgroup::id(cgroup)?,
        };
        for (name, at) in CGROUP_PROGRAMS {
            let loaded = load(&mut object, name, &self.pins)?;
            attach_pinned(&self.pins.link(name), name, at, &loaded, &target)?;
        }
        Ok(())
    }

    /// Loads a copy of the `sk_lookup` program for the pod in the namespace with this cookie.
    pub(super) fn sk_lookup(&mut self, cookie: u64) -> Result<Loaded, DatapathError> {
        for (name, byte) in program::NETNS_COOKIE.iter().zip(cookie.to_le_bytes()) {
            self.inner
                .override_global(name, &BYTES[usize::from(byte)], true);
        }
        let failed = |source| DatapathError::program(program::SK_LOOKUP, source);
        let mut object = self.object()?;
        let found = object
            .program_mut(program::SK_LOOKUP)
            .ok_or(ProgramError::NotLoaded);
        let lookup: &mut SkLookup = found.and_then(TryInto::try_into).map_err(failed)?;
        lookup.load().map_err(failed)?;
        lookup
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(failed)
    }

    fn object(&mut self) -> Result<Ebpf, DatapathError> {
        self.inner
            .load(OBJECT)
            .map_err(|source| DatapathError::Load(Box::new(source)))
    }
}

fn load(object: &mut Ebpf, name: &'static str, pins: &Pins) -> Result<Loaded, DatapathError> {
    let failed = |source| DatapathError::program(name, source);
    let program = object
        .program_mut(name)
        .ok_or_else(|| failed(ProgramError::NotLoaded))?;
    match program {
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        Program::SockOps(program) => SockOps::load(program),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map_err(failed)?;
    let pin = pins.program(name);
    pins::remove(&pin)?;
    program
        .pin(&pin)
        .map_err(|source| DatapathError::Pin(pin, std::io::Error::other(source)))?;
    program
        .fd()
        .and_then(|fd| Ok(fd.try_clone()?))
        .map_err(failed)
}

/// Refuses maps pinned by an agent with another idea of them: the same ABI version must mean the
/// same layout.
fn check_pinned_maps(pins: &Pins) -> Result<(), DatapathError> {
    for (name, key, value) in LAYOUT {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|source| DatapathError::map(name, source))?;
        if info.key_size() as usize != key || info.value_size() as usize != value {
            return Err(DatapathError::Layout(path));
        }
    }
    Ok(())
}
