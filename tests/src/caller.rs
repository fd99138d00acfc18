//! A caller of the agent's enrolment socket that sends what `mesh-node enroll` never would.

use anyhow::{Context as _, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with, sockopt,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const NOBODY: u32 = 65_534;

/// Connects to the socket.
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Connects to the socket as a user without any rights.
pub fn dial_as_nobody(path: &Path) -> Result<io::Result<OwnedFd>> {
    // A thread of its own, that ends: the change of user is for this thread alone.
    std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_res_gid(gid, gid, gid).context("cannot change the group")?;
            set_thread_res_uid(uid, uid, uid).context("cannot change the user")?;
            Ok(dial(path))
        });
        nobody
            .join()
            .map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}

/// Sends one request, with these descriptors, and returns the answer; it is empty when there was none.
pub fn ask(path: &Path, request: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<String> {
    let socket = dial(path).context("cannot connect")?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        &socket,
        &[IoSlice::new(request)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .context("cannot send")?;
    let mut answer = vec![0; 64 << 10];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).context("no answer")?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
