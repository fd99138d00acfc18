//! The CNI agent's side of ZDS: listens on a unix socket, is dialled by the proxy, hands it pods.

use super::message::{AddWorkload, Hello, Payload, Request, Response, WorkloadInfo};
use crate::topology::Pod;
use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recv, sendmsg, socket_with, sockopt,
};
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

const VERSION: i32 = 1;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const MAX_MESSAGE: usize = 4096;

/// A socket that waits for the proxy.
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Listens at this path.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddrUnix::new(path)?)
            .with_context(|| format!("cannot bind {}", path.display()))?;
        listen(&socket, 1)?;
        // Holds for accepting too.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Self(socket))
    }

    /// Takes the proxy's call; no pods are handed over yet.
    pub(super) fn accept(&self) -> Result<Session> {
        let socket = accept_with(&self.0, SocketFlags::CLOEXEC)
            .context("the proxy did not dial the ZDS socket")?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
        let session = Session(socket);
        let hello = Hello::decode(&*session.receive()?).context("no ZDS greeting")?;
        ensure!(
            hello.version == VERSION,
            "the proxy speaks version {} of ZDS, not {VERSION}",
            hello.version
        );
        Ok(session)
    }
}

/// The proxy's connection.
pub(super) struct Session(OwnedFd);

impl Session {
    /// Hands over a pod; the proxy serves it when this returns.
    pub(super) fn add(&self, uid: &str, account: &str, pod: &Pod) -> Result<()> {
        let netns = File::open(pod.place.netns())?;
        let add = AddWorkload {
            uid: uid.to_owned(),
            info: Some(WorkloadInfo {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                service_account: account.to_owned(),
            }),
        };
        self.ask(Payload::Add(add), &[netns.as_fd()])
            .with_context(|| format!("the proxy did not take {}", pod.key()))
    }

    /// Says that every pod there is has been handed over.
    pub(super) fn snapshot_sent(&self) -> Result<()> {
        self.ask(Payload::SnapshotSent(()), &[])
    }

    fn ask(&self, payload: Payload, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let request = Request {
            payload: Some(payload),
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        sendmsg(
            &self.0,
            &[IoSlice::new(&request.encode_to_vec())],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .context("cannot send")?;
        let response = Response::decode(&*self.receive()?).context("no ZDS answer")?;
        match response.ack {
            Some(ack) if ack.error.is_empty() => Ok(()),
            Some(ack) => bail!("{}", ack.error),
            None => bail!("the answer is no acknowledgement"),
        }
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, _) =
            recv(&self.0, &mut buffer[..], RecvFlags::empty()).context("nothing came")?;
        ensure!(length > 0, "the proxy hung up");
        buffer.truncate(length);
        Ok(buffer)
    }
}
