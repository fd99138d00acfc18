//! How one agent takes over from another on the same node, while both run.
//!
//! The successor connects to the enrolment socket of the agent that serves. That one sends each pod with its
//! network namespace and its listening sockets, and changes nothing from then on. The successor serves them, beside
//! it: both accept from the same sockets, so that no connection meets a closed one. Then the successor says so, and
//! the old agent accepts no more and drains. If either dies before, the other one goes on as if nothing had been.

use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::SOCKET;
use super::api::{Reply, Request, respond};
use super::manager::Enrolment;
use super::store::StoredPod;
use crate::seqpacket;

/// The successor serves all pods within this time.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// An agent that does not answer for so long is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The old agent has closed its other listeners within this time.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// What is sent to the successor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Handed {
    /// A pod; its network namespace comes along, and after it its listening sockets.
    Pod(StoredPod),
    /// That was all. The cgroup is the old agent's, by its id.
    All { cgroup: u64 },
}

/// What the successor says once it serves them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Taken,
}

/// Said to the agent that was superseded; it hangs up when it has closed its admin listeners.
#[derive(Debug)]
pub struct Superseded(
    #[expect(dead_code, reason = "hangs up when dropped")] mpsc::Sender<Infallible>,
);

/// Serves a successor; true when it has taken over.
pub(super) fn serve(caller: &OwnedFd, enrolment: &Enrolment) -> io::Result<bool> {
    tracing::info!("another agent asks to take over");
    let Some(mut handing) = enrolment.hand_over()? else {
        let why = "another agent has taken over already";
        return respond(caller, &Reply::Error(why.into())).map(|()| false);
    };
    for (pod, descriptors) in &handing.pods {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        let text = serde_json::to_vec(&Handed::Pod(pod.clone()))?;
        seqpacket::send(caller, &text, &descriptors)?;
    }
    let cgroup = handing.cgroup;
    seqpacket::send(caller, &serde_json::to_vec(&Handed::All { cgroup })?, &[])?;
    seqpacket::limit(caller, TAKEN_WITHIN)?;
    let word = seqpacket::receive(caller)?;
    if !matches!(serde_json::from_slice(&word.text), Ok(Word::Taken)) {
        tracing::warn!("the other agent did not take over; this one goes on");
        return Ok(false);
    }
    let (closed, hung_up) = mpsc::channel();
    handing.taken(Superseded(closed));
    let Err(_) = hung_up.recv_timeout(RELEASED_WITHIN);
    // The successor need not hear it.
    let _ = respond(caller, &Reply::Ok);
    Ok(true)
}

/// The agent that serves, seen by its successor.
#[derive(Debug)]
pub struct Predecessor {
    socket: OwnedFd,
    /// Its pods.
    pub(super) pods: Vec<(StoredPod, OwnedFd, Vec<OwnedFd>)>,
    /// Its cgroup.
    pub cgroup: u64,
}

impl Predecessor {
    /// Whether an agent serves with this run folder.
    #[must_use]
    pub fn is_there(run_dir: &Path) -> bool {
        seqpacket::connect(&run_dir.join(SOCKET), ANSWER_WITHIN).is_ok()
    }

    /// Asks the agent of this run folder for its pods. Nothing has changed yet.
    ///
    /// # Errors
    /// There is none, it does not answer, or it knows no such request.
    pub fn ask(run_dir: &Path) -> io::Result<Self> {
        let socket = seqpacket::connect(&run_dir.join(SOCKET), ANSWER_WITHIN)?;
        seqpacket::send(&socket, &serde_json::to_vec(&Request::HandOver)?, &[])?;
        let mut pods = Vec::new();
        loop {
            let received = seqpacket::receive(&socket)?;
            match serde_json::from_slice(&received.text) {
                Ok(Handed::Pod(pod)) => {
                    let mut descriptors = received.descriptors.into_iter();
                    let missing = || io::Error::other(format!("{pod:?} came without its netns"));
                    let netns = descriptors.next().ok_or_else(missing)?;
                    pods.push((pod, netns, descriptors.collect()));
                }
                Ok(Handed::All { cgroup }) => {
                    return Ok(Self {
                        socket,
                        pods,
                        cgroup,
                    });
                }
                Err(_) => {
                    let answer = String::from_utf8_lossy(&received.text).into_owned();
                    return Err(io::Error::other(format!("it answered {answer:?}")));
                }
            }
        }
    }

    /// Tells it that its pods are served here. It accepts no more when this returns.
    ///
    /// # Errors
    /// It is gone.
    pub fn release(self) -> io::Result<()> {
        seqpacket::send(&self.socket, &serde_json::to_vec(&Word::Taken)?, &[])?;
        seqpacket::receive(&self.socket).map(drop)
    }
}
