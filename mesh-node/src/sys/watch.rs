//! Readiness of descriptors, by the runtime of this thread.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime of this thread watch a connection, which must be in non-blocking mode.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_stream(stream: TcpStream) -> io::Result<AsyncFd<TcpStream>> {
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    // SAFETY: a `TcpStream` owns its descriptor, returns no other, and closes it only when dropped;
    // the `AsyncFd` owns the stream and gives out shared references only.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

/// Has the runtime of this thread watch a listener, which must be in non-blocking mode.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_listener(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: as for a `TcpStream` above.
    Ok(unsafe { AsyncFd::register(listener) }?)
}

/// Has the runtime of this thread watch for something to be read from a file.
///
/// # Errors
/// Such a file cannot be waited for.
pub fn watch_arrival(file: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let own = file.as_fd().try_clone_to_owned()?;
    // SAFETY: an owned descriptor stays open, and the same one, until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?)
}
