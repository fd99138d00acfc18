//! The same-node fast path: connections between two pods of this node without a tunnel.
//!
//! Policy is judged as if the connection came through a tunnel from the client's identity, which is known
//! because both pods are enrolled here. The first connection to a destination takes the tunnel; when policy
//! allows the next ones to do without, the kernel is told to exempt them. Every published state is
//! held against the exemptions and against the connections that are alive: what it denies is withdrawn, and cut.
//!
//! The kernel's own table of sockets says which direct connections there are. What is counted and logged
//! comes from events, of which some may be lost; what is cut does not depend on them.

mod closing;
mod connections;
mod decide;
mod fast_path;
mod grants;
mod reaper;
mod worker;

use clap::ValueEnum;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::bpf::{Datapath, DatapathError, Need, probe};
use crate::observe::Observer;
use crate::pod::Pod;
use mesh_common::snapshot::Snapshot;
use worker::{Candidate, Control, Inbox};

/// Candidates that may wait to be judged; one that finds no room is noticed at its next connection.
const CANDIDATES: usize = 1024;

/// How pods of the same node reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SameNode {
    /// Through a tunnel, as any others.
    #[default]
    Tunnel,
    /// In the clear over the node's own links, where policy allows the connection.
    Direct,
}

/// The fast path cannot be offered.
#[derive(Debug, Error)]
pub enum DirectError {
    /// The kernel lacks something.
    #[error("--same-node direct needs what this kernel lacks: {}", .0.join("; "))]
    Kernel(Vec<String>),
    /// The kernel's tables cannot be used.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The thread cannot be started.
    #[error("cannot start the thread for --same-node: {0}")]
    Thread(#[from] std::io::Error),
}

/// The fast path, or that there is none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Direct(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    control: mpsc::UnboundedSender<Control>,
    candidates: mpsc::Sender<Candidate>,
    /// Addresses of the enrolled pods, by which most destinations are told to be none of them.
    local: RwLock<HashMap<IpAddr, u64>>,
    figures: Arc<Figures>,
}

/// What there is now.
#[derive(Debug, Default)]
struct Figures {
    exemptions: AtomicUsize,
    connections: AtomicUsize,
}

impl Direct {
    /// Starts the fast path on a thread of its own. With [`SameNode::Tunnel`] there is none, and
    /// what an earlier agent left of it is cut.
    ///
    /// # Errors
    /// [`DirectError`]
    pub fn start(
        mode: SameNode,
        datapath: Arc<Datapath>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        observer: Observer,
    ) -> Result<Self, DirectError> {
        if mode == SameNode::Tunnel && !datapath.was_direct()? {
            return Ok(Self(None));
        }
        let missing = probe().missing(Need::SameNodeDirect);
        if !missing.is_empty() {
            return Err(DirectError::Kernel(missing));
        }
        let (control, controls) = mpsc::unbounded_channel();
        let (candidates, candidate) = mpsc::channel(CANDIDATES);
        let figures = Arc::<Figures>::default();
        let inbox = Inbox {
            control: controls,
            candidates: candidate,
            snapshot,
        };
        worker::spawn(mode, datapath, observer, inbox, figures.clone())?;
        Ok(Self(Some(Arc::new(Shared {
            control,
            candidates,
            local: RwLock::default(),
            figures,
        }))))
    }

    /// A pod is enrolled.
    pub fn joined(&self, pod: &Arc<Pod>) {
        let Some(shared) = &self.0 else { return };
        let cookie = pod.netns.cookie();
        let mut local = shared.local.write().unwrap_or_else(PoisonError::into_inner);
        local.extend(pod.addresses.iter().map(|&address| (address, cookie)));
        drop(local);
        shared.tell(Control::Joined(pod.clone()));
    }

    /// A pod is un-enrolled; the kernel exempts none of its connections any more. Open ones run on to
    /// their end, under policy as before.
    pub fn left(&self, pod: &Pod) {
        let Some(shared) = &self.0 else { return };
        let cookie = pod.netns.cookie();
        let mut local = shared.local.write().unwrap_or_else(PoisonError::into_inner);
        local.retain(|_, of| *of != cookie);
        drop(local);
        shared.tell(Control::Left(cookie));
    }

    /// The pods of an earlier run have joined: what they have open is judged, or cut.
    pub fn restored(&self) {
        if let Some(shared) = &self.0 {
            shared.tell(Control::Restored);
        }
    }

    /// A tunnel took a connection of `client` to `destination`: from now on it may not need to.
    pub fn consider(&self, client: &Pod, destination: SocketAddr) {
        let Some(shared) = &self.0 else { return };
        let local = shared.local.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(&server) = local.get(&destination.ip()) {
            let client = client.netns.cookie();
            // Full: the next connection asks again.
            let _ = shared.candidates.try_send(Candidate {
                client,
                server,
                destination,
            });
        }
    }

    /// Ends the fast path: no new connections, and those that are open get this long before they are
    /// cut, because nobody is left to hold them against policy.
    pub async fn stop(&self, deadline: Duration) {
        let Some(shared) = &self.0 else { return };
        let (done, stopped) = oneshot::channel();
        shared.tell(Control::Stop { deadline, done });
        // The thread hangs up when it ends by itself.
        let _ = stopped.await;
    }

    /// Ends this agent's part in the fast path and leaves everything as it is: another agent has taken
    /// over.
    pub async fn hand_over(&self) {
        let Some(shared) = &self.0 else { return };
        let (done, stopped) = oneshot::channel();
        shared.tell(Control::HandOver { done });
        let _ = stopped.await;
    }

    /// Exemptions in force now.
    #[must_use]
    pub fn exemptions(&self) -> usize {
        self.figure(|figures| &figures.exemptions)
    }

    /// Direct connections open now, as far as they are known.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.figure(|figures| &figures.connections)
    }

    fn figure(&self, of: impl Fn(&Figures) -> &AtomicUsize) -> usize {
        let figures = self.0.as_deref().map(|shared| &shared.figures);
        figures.map_or(0, |figures| of(figures).load(Ordering::Relaxed))
    }

    /// Exemptions and connections, for the operator.
    pub async fn describe(&self) -> Value {
        let Some(shared) = &self.0 else {
            return Value::Null;
        };
        let (reply, described) = oneshot::channel();
        shared.tell(Control::Describe(reply));
        described.await.unwrap_or(Value::Null)
    }
}

impl Shared {
    fn tell(&self, control: Control) {
        // Nobody hears it once the thread has done its work.
        let _ = self.control.send(control);
    }
}
