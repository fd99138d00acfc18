//! Local messages with descriptors: unix sockets of kind SOCK_SEQPACKET that root alone can open.

use rustix::fs::{Mode, chmod, rename, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    bind, connect as connect_to, listen as listen_on, recvmsg, sendmsg, socket_with, sockopt,
};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Longest message, bytes.
pub const MESSAGE: usize = 64 << 10;
/// Most descriptors of one message.
pub const DESCRIPTORS: usize = 64;

/// What came in one message.
#[derive(Debug)]
pub struct Received {
    /// The text; empty when the other side has hung up.
    pub text: Vec<u8>,
    /// It was longer than a message may be.
    pub cut: bool,
    /// The descriptors that came along.
    pub descriptors: Vec<OwnedFd>,
}

fn socket() -> Result<OwnedFd, Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// Listens at `path`, for root only. A socket that is there is replaced in one step: nobody meets none.
///
/// # Errors
/// When the folder is not there or the socket cannot be bound; names the path.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let mut draft = OsString::from(path);
    draft.push(format!(".{}", std::process::id()));
    let draft = Path::new(&draft);
    let bound = (|| {
        match unlink(draft) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(draft)?)?;
        chmod(draft, Mode::RUSR | Mode::WUSR)?;
        listen_on(&socket, 128)?;
        rename(draft, path)?;
        Ok::<_, Errno>(socket)
    })();
    bound.map_err(|e| {
        let _ = unlink(draft);
        io::Error::new(
            io::Error::from(e).kind(),
            format!("socket {}: {e}", path.display()),
        )
    })
}

/// Connects to whoever listens at `path`; each message is then sent and received within `within`.
///
/// # Errors
/// Nobody listens, or may not be talked to.
pub fn connect(path: &Path, within: Duration) -> io::Result<OwnedFd> {
    let socket = socket()?;
    connect_to(&socket, &SocketAddrUnix::new(path)?)?;
    limit(&socket, within)?;
    Ok(socket)
}

/// Each message is sent and received within this time.
///
/// # Errors
/// The descriptor is no socket.
pub fn limit(socket: &OwnedFd, within: Duration) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(within))?;
    Ok(sockopt::set_socket_timeout(
        socket,
        sockopt::Timeout::Send,
        Some(within),
    )?)
}

/// Sends one message.
///
/// # Errors
/// It is too long, or the other side is gone or does not read.
pub fn send(to: &OwnedFd, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(to, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message.
///
/// # Errors
/// None came in time, or the other side is gone.
pub fn receive(from: &OwnedFd) -> io::Result<Received> {
    let mut text = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = part {
            descriptors.extend(sent);
        }
    }
    text.truncate(message.bytes);
    Ok(Received {
        text,
        cut: message.flags.contains(ReturnFlags::TRUNC),
        descriptors,
    })
}
