//! Sockets: blocking ones that give up in time, and non-blocking ones.

use super::header::Request;
use super::{ANSWER, PATIENCE};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Connects; a read or a write that gets nowhere fails in the end.
pub(super) fn open(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, asks, and waits for the answer.
pub(super) fn ask(to: SocketAddr, request: Request) -> Result<TcpStream> {
    let mut stream = open(to)?;
    stream
        .write_all(&request.encode())
        .context("cannot send the request")?;
    let mut answer = [0];
    stream.read_exact(&mut answer).context("got no answer")?;
    ensure!(
        answer == [ANSWER],
        "the answer is {answer:?}: is it lab-load that listens there?"
    );
    Ok(stream)
}

/// Begins to connect and does not wait.
pub(super) fn begin(to: SocketAddr) -> Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .context("cannot open a socket")?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error).context("cannot connect"),
    }
}

/// Takes a waiting connection, in non-blocking mode; none when nobody waits.
pub(super) fn accept(listener: impl rustix::fd::AsFd) -> Result<Option<TcpStream>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match rustix::net::accept_with(listener, flags) {
        Ok(socket) => Ok(Some(socket.into())),
        // The client went away before it was taken, or nobody waits.
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error).context("cannot accept a connection"),
    }
}

/// The error that a socket holds, for example that it could not connect.
pub(super) fn pending_error(stream: &TcpStream) -> Result<()> {
    sockopt::socket_error(stream)?.context("the connection failed")
}
