//! Connects from inside a pod's network namespace, with the pod's own address.

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::pod::Pod;
use crate::socket::{CongestionControl, Socket};

/// TCP to a peer or an application is established within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Kernel keepalive on what the data plane holds open.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A socket in the pod's network namespace, not connected yet, for a peer elsewhere.
pub(super) fn socket(pod: &Pod, family_of: SocketAddr) -> io::Result<RawSocket> {
    let socket = in_pod(pod, family_of)?;
    tune(&socket);
    Ok(socket)
}

/// The same for a peer in the pod itself: the kernel tells when it ends, so there is nothing to probe.
pub(super) fn local_socket(pod: &Pod, family_of: SocketAddr) -> io::Result<RawSocket> {
    let socket = in_pod(pod, family_of)?;
    tune_local(&socket);
    Ok(socket)
}

fn in_pod(pod: &Pod, family_of: SocketAddr) -> io::Result<RawSocket> {
    pod.netns.run(|| {
        RawSocket::new(
            Domain::for_address(family_of),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )
    })?
}

/// Connects a socket made by [`socket`].
pub(super) async fn connect(socket: RawSocket, to: SocketAddr) -> io::Result<Socket> {
    match tokio::time::timeout(CONNECT_WITHIN, Socket::connect(socket, to)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer within 10 s",
        )),
    }
}

/// Socket options for connections to other hosts. Best effort: a connection works without them.
pub(super) fn tune(socket: &RawSocket) {
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Socket options for connections within a pod. Best effort as well.
pub(super) fn tune_local(socket: &RawSocket) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = CongestionControl::local().apply(socket);
}
