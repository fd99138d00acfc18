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
    let mut answer = Vec::new();
    let mut part = vec![0; MESSAGE];
    loop {
        let (length, _) = recv(&socket, &mut part[..], RecvFlags::empty())
            .context("the agent did not answer; see its log")?;
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&part[..length]);
    }
    match serde_json::from_slice(&answer).context("the agent's answer is malformed")? {
        Reply::Error(why) => bail!(why),
        reply => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enroll::Enrolled;
    use crate::enroll::api::respond;
    use rustix::net::{accept, bind, listen};

    #[test]
    fn a_reply_longer_than_a_message_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let listener = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = SocketAddrUnix::new(dir.path().join(SOCKET)).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 1).unwrap();
        let pods = (0..2000).map(|n| Enrolled {
            namespace: "shop".into(),
            name: format!("web-{n}"),
            netns: "/run/netns/web".into(),
            ready: false,
            identity: None,
        });
        let reply = Reply::Pods(pods.collect());
        let length = serde_json::to_vec(&reply).unwrap().len();
        assert!(length > 2 * MESSAGE, "only {length} bytes");
        let agent = std::thread::spawn(move || {
            let caller = accept(&listener).unwrap();
            recv(&caller, &mut [0; MESSAGE][..], RecvFlags::empty()).unwrap();
            respond(&caller, &reply)
        });
        let Reply::Pods(listed) = call(dir.path(), &Request::List).unwrap() else {
            panic!("not a list");
        };
        agent.join().unwrap().unwrap();
        assert_eq!(listed.len(), 2000);
        assert_eq!(listed[1999].name, "web-1999");
    }
}
