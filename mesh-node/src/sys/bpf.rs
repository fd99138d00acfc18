//! BPF calls that aya does not offer: socket storage without a lock around the map, and links whose
//! program can be replaced in place.

use aya::Pod;
use mesh_common::abi::{
    Address, Agent, DirectEvent, DirectKey, DirectSocket, EnrolledPod, Exemption, Expected,
    FlowKey, ListenerKey, Origin, RefusedCount, RefusedKey, RefusedSlot,
};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A type of the map ABI, as aya takes it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Abi<T>(pub T);

macro_rules! impl_pod {
    ($($kind:ty),*) => {
        // SAFETY: `repr(C)` integers with the padding spelled out: any bytes are a value, and every
        // byte of a value is initialised.
        $(unsafe impl Pod for Abi<$kind> {})*
    };
}

impl_pod!(
    Address,
    Agent,
    DirectEvent,
    DirectKey,
    DirectSocket,
    EnrolledPod,
    Exemption,
    Expected,
    FlowKey,
    ListenerKey,
    Origin,
    RefusedCount,
    RefusedKey,
    RefusedSlot
);

impl<T> Abi<T>
where
    Self: Pod,
{
    /// Reads a value from as many bytes as it has; none when there are fewer or more.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<T> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: there are enough bytes, any bytes are a value, and they need not be aligned.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() }.0)
    }
}

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ObjectPath {
    path: u64,
    descriptor: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    new_program: u32,
    flags: u32,
    old_program: u32,
}

/// # Safety
/// `A` is the leading part of `union bpf_attr` that `command` reads, and its pointers are valid for
/// what `command` reads and writes.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: upheld by the caller; the size is that of the value pointed to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The map of [`Origin`]s, by socket.
#[derive(Debug)]
pub struct OriginMap(OwnedFd);

impl OriginMap {
    /// Opens the map pinned at `path`.
    ///
    /// # Errors
    /// There is no such pin.
    pub fn from_pin(path: &Path) -> io::Result<Self> {
        Ok(Self(open_pin(path)?))
    }

    /// The origin stored on a socket.
    ///
    /// # Errors
    /// The descriptor is no socket.
    pub fn get(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Origin>> {
        let key: RawFd = socket.as_raw_fd();
        let mut value = Origin {
            address: Address::UNSPECIFIED,
            port: 0,
            padding: 0,
            kind: 0,
        };
        let mut attributes = MapElement {
            map: self.0.as_raw_fd().cast_unsigned(),
            key: (&raw const key).expose_provenance() as u64,
            value: (&raw mut value).expose_provenance() as u64,
            ..MapElement::default()
        };
        // SAFETY: the map's key is a descriptor and its value an `Origin`; both outlive the call.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) } {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Stores an origin on a socket.
    ///
    /// # Errors
    /// The descriptor is no socket, or there is no memory for it.
    pub fn set(&self, socket: BorrowedFd<'_>, origin: &Origin) -> io::Result<()> {
        let key: RawFd = socket.as_raw_fd();
        let mut attributes = MapElement {
            map: self.0.as_raw_fd().cast_unsigned(),
            key: (&raw const key).expose_provenance() as u64,
            value: std::ptr::from_ref(origin).expose_provenance() as u64,
            ..MapElement::default()
        };
        // SAFETY: the map's key is a descriptor and its value an `Origin`; both outlive the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }
}

/// Where a program is attached; the numbers are the kernel's.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachType {
    /// `sock_ops` of a cgroup.
    SockOps = 3,
    /// IPv4 connects of a cgroup.
    Connect4 = 10,
    /// IPv6 connects of a cgroup.
    Connect6 = 11,
    /// IPv4 `getpeername` and `accept` of a cgroup.
    Getpeername4 = 29,
    /// IPv6 `getpeername` and `accept` of a cgroup.
    Getpeername6 = 30,
    /// Socket lookup of a network namespace.
    SkLookup = 36,
}

/// The attachment of a program; without a pin it ends when this value is dropped.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches a program to a cgroup or a network namespace. Beside others: a cgroup's link
    /// never takes another's place.
    ///
    /// # Errors
    /// The kernel refuses the program there.
    pub fn attach(program: &impl AsFd, target: BorrowedFd<'_>, at: AttachType) -> io::Result<Self> {
        let mut attributes = LinkCreate {
            program: program.as_fd().as_raw_fd().cast_unsigned(),
            target: target.as_raw_fd().cast_unsigned(),
            attach_type: at as u32,
            flags: 0,
        };
        // SAFETY: the command reads these four numbers only.
        let descriptor = unsafe { bpf(LINK_CREATE, &mut attributes) }?;
        // SAFETY: the kernel returned a new descriptor, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }))
    }

    /// Opens the link pinned at `path`.
    ///
    /// # Errors
    /// There is no such pin.
    pub fn from_pin(path: &Path) -> io::Result<Self> {
        Ok(Self(open_pin(path)?))
    }

    /// Pins the link, so that it outlives the process.
    ///
    /// # Errors
    /// The path exists, or is not on a bpffs.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = ObjectPath {
            path: path.as_ptr().expose_provenance() as u64,
            descriptor: self.0.as_raw_fd().cast_unsigned(),
            flags: 0,
        };
        // SAFETY: the path is a terminated string that outlives the call.
        unsafe { bpf(OBJ_PIN, &mut attributes) }.map(drop)
    }

    /// Replaces the link's program at once: there is no moment without one.
    ///
    /// # Errors
    /// What the link was attached to is gone, or the program is of another type.
    pub fn replace_program(&self, program: &impl AsFd) -> io::Result<()> {
        let mut attributes = LinkUpdate {
            link: self.0.as_raw_fd().cast_unsigned(),
            new_program: program.as_fd().as_raw_fd().cast_unsigned(),
            ..LinkUpdate::default()
        };
        // SAFETY: the command reads these four numbers only.
        unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(drop)
    }

    /// Detaches the program now. Removing the last pin would detach it too, but some time later.
    ///
    /// # Errors
    /// The kernel is older than Linux 5.9.
    pub fn detach(&self) -> io::Result<()> {
        let mut link = self.0.as_raw_fd().cast_unsigned();
        // SAFETY: the command reads this one number only.
        unsafe { bpf(LINK_DETACH, &mut link) }.map(drop)
    }

    /// The cgroup's id or the namespace's inode number; none when what it was attached to is gone.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn target(&self) -> io::Result<Option<u64>> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        Ok(info
            .lines()
            .find_map(|line| {
                line.strip_prefix("netns_ino:")
                    .or(line.strip_prefix("cgroup_id:"))
            })
            .and_then(|number| number.trim().parse().ok())
            .filter(|number| *number != 0))
    }
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjectPath {
        path: path.as_ptr().expose_provenance() as u64,
        ..ObjectPath::default()
    };
    // SAFETY: the path is a terminated string that outlives the call.
    let descriptor = unsafe { bpf(OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel returned a new descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}
