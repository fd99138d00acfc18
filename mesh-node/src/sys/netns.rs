//! Network namespaces: held by descriptor, entered by one thread for one call.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// A network namespace, kept alive for as long as this value or a clone of it exists.
#[derive(Clone, Debug)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    cookie: u64,
}

impl Netns {
    /// Opens the namespace at a path such as `/proc/<pid>/ns/net` or `/run/netns/<name>`.
    ///
    /// # Errors
    /// The path cannot be opened, is no network namespace, or may not be entered.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Takes the namespace that a descriptor refers to.
    ///
    /// # Errors
    /// The descriptor is of no network namespace, or the namespace may not be entered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // Any socket made in there will do.
        let cookie = run_in(fd.as_fd(), || {
            netns_cookie(&UdpSocket::bind(("0.0.0.0", 0))?)
        })??;
        Ok(Self {
            fd: Arc::new(fd),
            cookie,
        })
    }

    /// The kernel's name for the namespace: never used twice while the machine runs.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Runs `f` in the namespace, on this thread, and comes back; also when `f` panics.
    ///
    /// # Errors
    /// The namespace cannot be entered; `f` has not run then. A thread that cannot come back would
    /// go on in a pod's network, so that aborts the process.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        run_in(self.fd.as_fd(), f)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn run_in<T>(netns: BorrowedFd<'_>, f: impl FnOnce() -> T) -> io::Result<T> {
    let home = Home(HOME.with(|home| match home.get() {
        Some(home) => Ok(home.clone()),
        None => {
            let opened = Rc::new(File::open("/proc/thread-self/ns/net")?);
            Ok::<_, io::Error>(home.get_or_init(|| opened).clone())
        }
    })?);
    enter(netns).map_err(|e| match e.raw_os_error() {
        Some(libc::EINVAL) => io::Error::new(e.kind(), "not a network namespace"),
        Some(libc::EPERM) => io::Error::new(
            e.kind(),
            "may not enter the network namespace: CAP_SYS_ADMIN is needed",
        ),
        _ => e,
    })?;
    let result = f();
    drop(home);
    Ok(result)
}

fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(
        netns,
        Some(LinkNameSpaceType::Network),
    )?)
}

thread_local! {
    /// The network namespace in which this thread lives; it leaves it only for the time of a call.
    static HOME: OnceCell<Rc<File>> = const { OnceCell::new() };
}

/// Brings the thread back when dropped.
struct Home(Rc<File>);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = enter(self.0.as_fd()) {
            tracing::error!(%error, "cannot leave a pod's network namespace");
            std::process::abort();
        }
    }
}

/// The cookie of the network namespace that a socket lives in.
///
/// # Errors
/// The kernel is older than Linux 5.14.
pub fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}
