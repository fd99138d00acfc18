//! The local enrolment API: one JSON request and one JSON reply, in as many messages as it takes, for each
//! connection on a SOCK_SEQPACKET unix socket; `add` and `join` carry the pod's network namespace as a descriptor.

use rustix::fs::unlink;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::answer::{Answer, Verdict};
use super::hand_over;
use super::manager::{Enrolled, Enrolment, NewPod};
use super::{EnrollError, SOCKET};
use crate::seqpacket::{self, MESSAGE};
use crate::sys::Netns;

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
    /// Capture a new pod if it is in the mesh; its network namespace comes along as a descriptor.
    Join {
        /// Kubernetes namespace.
        namespace: String,
        /// Pod name.
        name: String,
        /// `metadata.uid`; empty when the runtime does not say.
        uid: String,
        /// The sandbox, as the runtime names it.
        container: String,
        /// Where the namespace can be opened again after a restart of the agent.
        netns: PathBuf,
        /// The caller waits no longer for the controller to name the pod: its namespace decides.
        last: bool,
    },
    /// A pod's sandbox ends.
    Leave {
        /// Kubernetes namespace.
        namespace: String,
        /// Pod name.
        name: String,
        /// The sandbox, as the runtime names it.
        container: String,
    },
    /// Hand all pods over to the caller, an agent that is about to take this one's place.
    HandOver,
}

/// What it is told.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok,
    /// The pods.
    Pods(Vec<Enrolled>),
    /// Whether the pod is in the mesh, and is then captured.
    Joined(bool),
    /// The controller has not named the pod yet: ask again.
    NotYet,
    /// Not done, and why.
    Error(String),
}

/// The listening socket; removed when dropped, unless another agent has put its own in its place.
#[derive(Debug)]
pub struct Api {
    listener: OwnedFd,
    path: Option<PathBuf>,
}

impl Api {
    /// Listens in `run_dir`, for root only. A socket left by a dead agent is replaced.
    ///
    /// # Errors
    /// When the folder cannot be made or the socket cannot be bound; names the path.
    pub fn bind(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("enrolment {e}"));
        std::fs::create_dir_all(run_dir).map_err(named)?;
        Ok(Self {
            listener: seqpacket::listen(&path).map_err(named)?,
            path: Some(path),
        })
    }

    /// Serves callers one after the other, on a thread of its own, until another agent takes over. Who is in
    /// the mesh is what `answers` says last; without it, only the caller knows.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(
        self,
        enrolment: Enrolment,
        answers: Option<watch::Receiver<Option<Arc<Answer>>>>,
    ) -> io::Result<()> {
        std::thread::Builder::new()
            .name("enrolment".into())
            .spawn(move || self.run(&enrolment, answers.as_ref()))?;
        Ok(())
    }

    fn run(
        mut self,
        enrolment: &Enrolment,
        answers: Option<&watch::Receiver<Option<Arc<Answer>>>>,
    ) {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(caller) => match serve(&caller, enrolment, answers) {
                    Ok(false) => {}
                    Ok(true) => {
                        // The path leads to the successor's socket.
                        self.path = None;
                        return;
                    }
                    Err(e) => tracing::warn!("enrolment: a caller left without its answer: {e}"),
                },
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
        if let Some(path) = &self.path {
            let _ = unlink(path);
        }
    }
}

/// True when the caller has taken over.
fn serve(
    caller: &OwnedFd,
    enrolment: &Enrolment,
    answers: Option<&watch::Receiver<Option<Arc<Answer>>>>,
) -> io::Result<bool> {
    seqpacket::limit(caller, REQUEST_WITHIN)?;
    let reply = match receive(caller)? {
        Ok((Request::HandOver, _)) => return hand_over::serve(caller, enrolment),
        Ok((request, descriptor)) => answer(request, descriptor, enrolment, answers),
        Err(why) => Reply::Error(why),
    };
    respond(caller, &reply).map(|()| false)
}

/// Sends a reply in as many messages as it takes: a list of pods may be longer than one can be.
pub(super) fn respond(caller: &OwnedFd, reply: &Reply) -> io::Result<()> {
    for part in serde_json::to_vec(reply)?.chunks(MESSAGE) {
        seqpacket::send(caller, part, &[])?;
    }
    Ok(())
}

type Received = Result<(Request, Option<OwnedFd>), String>;

fn receive(caller: &OwnedFd) -> io::Result<Received> {
    let received = seqpacket::receive(caller)?;
    if received.cut {
        return Ok(Err(format!("the request is longer than {MESSAGE} bytes")));
    }
    let descriptor = received.descriptors.into_iter().next();
    Ok(serde_json::from_slice(&received.text)
        .map(|request| (request, descriptor))
        .map_err(|e| format!("the request is malformed: {e}")))
}

fn answer(
    request: Request,
    descriptor: Option<OwnedFd>,
    enrolment: &Enrolment,
    answers: Option<&watch::Receiver<Option<Arc<Answer>>>>,
) -> Reply {
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
            match new_pod(&namespace, &name, netns, descriptor) {
                Ok(pod) => enrolment.add(pod),
                Err(why) => return Reply::Error(why),
            }
        }
        Request::Join {
            namespace,
            name,
            uid,
            container,
            netns,
            last,
        } => {
            let Some(answers) = answers else {
                let why =
                    "the agent does not know who is in the mesh: run it with --enrol kubernetes";
                return Reply::Error(why.into());
            };
            let verdict = match &*answers.borrow() {
                Some(answer) => answer.verdict(&namespace, &name, &uid),
                None => Verdict::ByNamespace(false),
            };
            match verdict {
                Verdict::ByNamespace(true) if !last => return Reply::NotYet,
                verdict if !verdict.is_in() => return Reply::Joined(false),
                _ => {}
            }
            let pod = new_pod(&namespace, &name, netns, descriptor).and_then(|pod| {
                let pod = NewPod {
                    uid,
                    container,
                    ..pod
                };
                enrolment.add(pod).map_err(|e| e.to_string())
            });
            return match pod {
                Ok(()) => Reply::Joined(true),
                Err(why) => Reply::Error(why),
            };
        }
        Request::Leave {
            namespace,
            name,
            container,
        } => enrolment.remove_sandbox(&namespace, &name, &container),
        Request::HandOver => Err(EnrollError::Superseded),
    };
    match done {
        Ok(()) => Reply::Ok,
        Err(e) => Reply::Error(e.to_string()),
    }
}

fn new_pod(
    namespace: &str,
    name: &str,
    netns_path: PathBuf,
    descriptor: Option<OwnedFd>,
) -> Result<NewPod, String> {
    let Some(descriptor) = descriptor else {
        return Err(format!(
            "pod {namespace}/{name}: no network namespace descriptor came with the request"
        ));
    };
    match Netns::from_fd(descriptor) {
        Ok(netns) => Ok(NewPod::new(namespace, name, netns, netns_path)),
        Err(e) => Err(format!(
            "pod {namespace}/{name}: the descriptor of {} is no network namespace: {e}",
            netns_path.display()
        )),
    }
}
