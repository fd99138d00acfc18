//! The local enrolment API: one JSON request and one JSON reply, in as many messages as it takes, for each
//! connection on a SOCK_SEQPACKET unix socket; `add` carries the pod's network namespace as a descriptor.

use rustix::fs::{Mode, chmod, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, recvmsg, send, socket_with,
    sockopt,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SOCKET;
use super::manager::{Enrolled, Enrolment};
use crate::sys::Netns;

/// Longest message, bytes.
pub(super) const MESSAGE: usize = 64 << 10;
/// A caller sends its request, and reads its reply, within this time.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What a caller asks.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Capture a pod; its network namespace comes along as a descriptor.
    Add {
        /// Kubernetes namespace.
        namespace: String,
        /// Pod name.
        name: String,
        /// Where the namespace can be opened again after a restart of the agent.
        netns: PathBuf,
    },
    /// Release a pod.
    Remove {
        /// Kubernetes namespace.
        namespace: String,
        /// Pod name.
        name: String,
    },
    /// Name the pods.
    List,
}

/// What it is told.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok,
    /// The pods.
    Pods(Vec<Enrolled>),
    /// Not done, and why.
    Error(String),
}

/// The listening socket; removed when dropped.
#[derive(Debug)]
pub struct Api {
    listener: OwnedFd,
    path: PathBuf,
}

impl Api {
    /// Listens in `run_dir`, for root only. A socket left by a dead agent is replaced.
    ///
    /// # Errors
    /// When the folder cannot be made or the socket cannot be bound; names the path.
    pub fn bind(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET);
        let named = |e: io::Error| {
            io::Error::new(
                e.kind(),
                format!("enrolment socket {}: {e}", path.display()),
            )
        };
        std::fs::create_dir_all(run_dir).map_err(named)?;
        match unlink(&path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(named(e.into())),
        }
        let listener = (|| {
            let address = SocketAddrUnix::new(&path)?;
            let socket = socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            bind(&socket, &address)?;
            chmod(&path, Mode::RUSR | Mode::WUSR)?;
            listen(&socket, 128)?;
            Ok::<_, Errno>(socket)
        })()
        .map_err(|e| named(e.into()))?;
        Ok(Self { listener, path })
    }

    /// Serves callers one after the other, on a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(self, enrolment: Enrolment) -> io::Result<()> {
        std::thread::Builder::new()
            .name("enrolment".into())
            .spawn(move || self.run(&enrolment))?;
        Ok(())
    }

    fn run(&self, enrolment: &Enrolment) {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(caller) => {
                    if let Err(e) = serve(&caller, enrolment) {
                        tracing::warn!("enrolment: a caller left without its answer: {e}");
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(e) => {
                    tracing::error!("enrolment: cannot accept a caller: {e}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = unlink(&self.path);
    }
}

fn serve(caller: &OwnedFd, enrolment: &Enrolment) -> io::Result<()> {
    sockopt::set_socket_timeout(caller, sockopt::Timeout::Recv, Some(REQUEST_WITHIN))?;
    let reply = match receive(caller)? {
        Ok((request, descriptor)) => answer(request, descriptor, enrolment),
        Err(why) => Reply::Error(why),
    };
    respond(caller, &reply)
}

/// Sends a reply in as many messages as it takes: a list of pods may be longer than one can be.
pub(super) fn respond(caller: &OwnedFd, reply: &Reply) -> io::Result<()> {
    sockopt::set_socket_timeout(caller, sockopt::Timeout::Send, Some(REQUEST_WITHIN))?;
    for part in serde_json::to_vec(reply)?.chunks(MESSAGE) {
        send(caller, part, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

type Received = Result<(Request, Option<OwnedFd>), String>;

fn receive(caller: &OwnedFd) -> io::Result<Received> {
    let mut text = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        caller,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Err(format!("the request is longer than {MESSAGE} bytes")));
    }
    Ok(serde_json::from_slice(&text[..message.bytes])
        .map(|request| (request, descriptor))
        .map_err(|e| format!("the request is malformed: {e}")))
}

fn answer(request: Request, descriptor: Option<OwnedFd>, enrolment: &Enrolment) -> Reply {
    let done = match request {
        Request::List => return Reply::Pods(enrolment.list()),
        Request::Remove { namespace, name } => enrolment.remove(&namespace, &name),
        Request::Add {
            namespace,
            name,
            netns,
        } => {
            if namespace.is_empty() || name.is_empty() {
                return Reply::Error("namespace and name must not be empty".into());
            }
            let Some(descriptor) = descriptor else {
                return Reply::Error(format!(
                    "pod {namespace}/{name}: no network namespace descriptor came with the request"
                ));
            };
            match Netns::from_fd(descriptor) {
                Ok(opened) => enrolment.add(&namespace, &name, opened, netns),
                Err(e) => {
                    return Reply::Error(format!(
                        "pod {namespace}/{name}: the descriptor of {} is no network namespace: {e}",
                        netns.display()
                    ));
                }
            }
        }
    };
    match done {
        Ok(()) => Reply::Ok,
        Err(e) => Reply::Error(e.to_string()),
    }
}
