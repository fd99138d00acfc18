//! Loads the programs with their maps, and attaches them to the captured cgroup.

use aya::maps::MapInfo;
use aya::programs::{CgroupSockAddr, Program, ProgramError, ProgramFd, SkLookup, SockOps};
use aya::{Ebpf, EbpfLoader};
use mesh_common::abi::{Address, Agent, EnrolledPod, FlowKey, ListenerKey, Origin, map, program};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use super::error::DatapathError;
use super::pins::{self, Pins};
use super::{DatapathOptions, cgroup, settings};
use crate::sys::bpf::{AttachType, Link};

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
    (map::LOCAL, size_of::<FlowKey>(), size_of::<u8>()),
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
];

/// Loads the cgroup's programs and attaches them; in place of an earlier agent's, if there are any.
pub(super) fn load_and_attach(pins: &Pins, options: &DatapathOptions) -> Result<(), DatapathError> {
    check_pinned_maps(pins)?;
    let mut object = object(pins, |loader| {
        loader
            .map_max_entries(map::ENROLLED, options.max_pods)
            .map_max_entries(map::LISTENERS, options.max_pods.saturating_mul(2))
            .map_max_entries(map::HANDOVER, options.max_flows)
            .map_max_entries(map::LOCAL, options.max_flows)
            .map_max_entries(map::NODE_ADDRESSES, settings::CAPACITY)
            .map_max_entries(map::EXCLUDED_PORTS, settings::CAPACITY)
            .map_max_entries(map::EXCLUDED_CIDRS, settings::CAPACITY);
    })?;
    for (name, at) in CGROUP_PROGRAMS {
        let loaded = load(&mut object, name, pins)?;
        attach_to_cgroup(pins, &options.cgroup, name, at, &loaded)?;
    }
    Ok(())
}

/// Loads a copy of the `sk_lookup` program for the pod in the namespace with this cookie.
pub(super) fn load_sk_lookup(pins: &Pins, cookie: u64) -> Result<Loaded, DatapathError> {
    let mut object = object(pins, |loader| {
        loader.override_global(program::NETNS_COOKIE, &cookie, true);
    })?;
    let name = program::SK_LOOKUP;
    let found = object.program_mut(name).ok_or(ProgramError::NotLoaded);
    let lookup: &mut SkLookup = found
        .and_then(TryInto::try_into)
        .map_err(|e| DatapathError::program(name, e))?;
    lookup.load().map_err(|e| DatapathError::program(name, e))?;
    let fd = lookup.fd().and_then(|fd| Ok(fd.try_clone()?));
    fd.map_err(|e| DatapathError::program(name, e))
}

/// A program in the kernel.
pub(super) type Loaded = ProgramFd;

fn object<'a>(
    pins: &Pins,
    configure: impl FnOnce(&mut EbpfLoader<'a>),
) -> Result<Ebpf, DatapathError> {
    let mut loader = EbpfLoader::new();
    // The programs read nothing of the kernel's own types.
    loader.btf(None);
    for name in map::ALL {
        loader.map_pin_path(name, pins.map(name));
    }
    configure(&mut loader);
    loader
        .load(OBJECT)
        .map_err(|source| DatapathError::Load(Box::new(source)))
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

fn attach_to_cgroup(
    pins: &Pins,
    cgroup: &Path,
    name: &'static str,
    at: AttachType,
    loaded: &Loaded,
) -> Result<(), DatapathError> {
    let directory =
        File::open(cgroup).map_err(|source| DatapathError::Cgroup(cgroup.to_owned(), source))?;
    let target = Target {
        name: cgroup.display().to_string(),
        fd: directory.as_fd(),
        id: cgroup::id(cgroup)?,
    };
    attach_pinned(&pins.link(name), name, at, loaded, &target)
}

/// What a program is attached to.
pub(super) struct Target<'a> {
    /// Its name, for people.
    pub(super) name: String,
    /// The cgroup's directory or the network namespace.
    pub(super) fd: BorrowedFd<'a>,
    /// The cgroup's id or the namespace's inode.
    pub(super) id: u64,
}

/// Attaches a program by a pinned link; an existing link to the same target gets the new program
/// without a gap, one to anything else is removed.
pub(super) fn attach_pinned(
    pin: &Path,
    name: &'static str,
    at: AttachType,
    loaded: &Loaded,
    target: &Target<'_>,
) -> Result<(), DatapathError> {
    let attach_failed = |source| DatapathError::Attach(name, target.name.clone(), source);
    let pin_failed = |source| DatapathError::Pin(pin.to_owned(), source);
    if pin.exists() {
        let link = Link::from_pin(pin).map_err(pin_failed)?;
        if link.target().map_err(pin_failed)? == Some(target.id) {
            return link.replace_program(loaded).map_err(attach_failed);
        }
        pins::remove_link(pin)?;
    }
    let link = Link::attach(loaded, target.fd, at).map_err(attach_failed)?;
    link.pin(pin).map_err(pin_failed)
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
