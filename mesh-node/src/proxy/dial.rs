//! Connects from inside a pod's network namespace, with the pod's own address.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

use crate::pod::Pod;

/// TCP to a peer or an application is established within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Kernel keepalive on what the data plane holds open.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A socket in the pod's network namespace, not connected yet.
pub(super) fn socket(pod: &Pod, family_of: SocketAddr) -> io::Result<Socket> {
    pod.netns.run(|| {
        Socket::new(
            Domain::for_address(family_of),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )
    })?
}

/// Connects a socket made by [`socket`].
pub(super) async fn connect(socket: Socket, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(CONNECT_WITHIN, socket.connect(to)).await {
        Ok(connected) => {
            let stream = connected?;
            tune(&stream);
            Ok(stream)
        }
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer within 10 s",
        )),
    }
}

/// Socket options for relayed connections. Best effort: a connection works without them.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Makes the close of `stream` a reset.
pub(super) fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Closes with a reset.
pub(super) fn reset(stream: TcpStream) {
    reset_on_close(&stream);
    drop(stream);
}
