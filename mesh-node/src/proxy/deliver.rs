//! The last hop: to the application, inside the pod, showing it the true client.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::authorize::Permit;
use super::dial;
use crate::bpf::Datapath;
use crate::socket::Socket;

/// Connects to the permitted destination inside the pod. accept() and getpeername() of the
/// application name `client`.
///
/// # Errors
/// When the application does not accept, or the kernel cannot be told who the client is: an
/// application that was shown a wrong client would log and decide on it.
pub(super) async fn deliver(
    datapath: &Datapath,
    permit: &Permit,
    client: SocketAddr,
) -> io::Result<Socket> {
    let facts = permit.facts();
    let socket = dial::local_socket(&facts.pod, facts.destination)?;
    datapath.announce_client(socket.as_fd(), client)?;
    dial::connect(socket, facts.destination).await
}
