//! The caller's side of the enrolment API.

use anyhow::{Context, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with, sockopt,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::SOCKET;
use super::api::{MESSAGE, Reply, Request};

/// The agent answers within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Asks the agent whose run folder is `run_dir`. `Add` opens the network namespace that it names.
///
/// # Errors
/// When there is no agent, the namespace cannot be opened, or the agent refuses.
pub fn call(run_dir: &Path, request: &Request) -> anyhow::Result<Reply> {
    let path = run_dir.join(SOCKET);
    let netns = match request {
        Request::Add { netns, .. } => Some(std::fs::File::open(netns).with_context(|| {
            format!(
                "cannot open network namespace {}; check --netns",
                netns.display()
            )
        })?),
        _ => None,
    };
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(&path)?).with_context(|| {
        format!(
            "no agent answers on {}; is mesh-node running with this --run-dir?",
            path.display()
        )
    })?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
    let text = serde_json::to_vec(request)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = netns.as_ref().map(|file| [file.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        &socket,
        &[IoSlice::new(&text)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .context("cannot send the request to the agent")?;
    let mut answer = vec![0; MESSAGE];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())
        .context("the agent did not answer; see its log")?;
    match serde_json::from_slice(&answer[..length]).context("the agent's answer is malformed")? {
        Reply::Error(why) => bail!(why),
        reply => Ok(reply),
    }
}
