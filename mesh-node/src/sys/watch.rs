//! Readiness of sockets, by the runtime of this thread.

use std::io;
use std::net::{TcpListener, TcpStream};
use tokio::io::unix::AsyncFd;

/// Has the runtime of this thread watch a connection, which must be in non-blocking mode.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_stream(stream: TcpStream) -> io::Result<AsyncFd<TcpStream>> {
    // SAFETY: a `TcpStream` owns its descriptor, returns no other, and closes it only when dropped;
    // the `AsyncFd` owns the stream and gives out shared references only.
    Ok(unsafe { AsyncFd::register(stream) }?)
}

/// Has the runtime of this thread watch a listener, which must be in non-blocking mode.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_listener(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: as for a `TcpStream` above.
    Ok(unsafe { AsyncFd::register(listener) }?)
}
