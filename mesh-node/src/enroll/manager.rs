//! Adds and removes pods, one at a time, in an order that never leaves a gap.

use mesh_common::identity::SpiffeId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc as channel, watch};

use super::hand_over::{Predecessor, Superseded};
use super::process::Processes;
use super::store::{Store, StoreError, StoredPod};
use crate::bpf::DatapathError;
use crate::drain::Drain;
use crate::keeper::Keeper;
use crate::pod::Pod;
use crate::proxy::{Listeners, Mesh, Workers, serve_pod};
use crate::sys::{Netns, interface_addresses};

/// Listeners are closed by the data plane within this time.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// Enrolments that follow each other closer than this belong together.
const QUIET_FOR: Duration = Duration::from_millis(200);
/// How often a certificate that could not be had is asked for again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// A pod could not be enrolled or un-enrolled.
#[derive(Debug, Error)]
pub enum EnrollError {
    /// The network namespace cannot be used.
    #[error("pod {0}: network namespace {1}: {2}")]
    Netns(String, PathBuf, io::Error),
    /// The network namespace has no address that traffic could come from or go to.
    #[error(
        "pod {0}: its network namespace {1} has no address besides loopback; enrol it after its network is set up"
    )]
    NoAddress(String, PathBuf),
    /// The network namespace is another pod's.
    #[error("pod {0}: network namespace {1} is enrolled as pod {2}; un-enrol that first")]
    Taken(String, PathBuf, String),
    /// A listener cannot be opened inside the pod.
    #[error("pod {0}: {1}; ports 15001, 15006 and 15008 inside the pod must be free")]
    Listen(String, io::Error),
    /// The kernel refused.
    #[error("pod {0}: {1}")]
    Datapath(String, DatapathError),
    /// The list of pods cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such pod here.
    #[error("pod {0} is not enrolled on this node; `mesh-node list` shows those that are")]
    NotEnrolled(String),
    /// Another agent serves the pods.
    #[error("another agent has taken over on this node; ask again")]
    Superseded,
}

/// A pod to be captured.
#[derive(Debug)]
pub struct NewPod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// `metadata.uid`; empty when it is not known.
    pub uid: String,
    /// Its sandbox, as the container runtime names it; empty when it is not known.
    pub container: String,
    /// Its network namespace.
    pub netns: Netns,
    /// Where that can be opened again.
    pub netns_path: PathBuf,
}

impl NewPod {
    /// A pod of which no more is known than its name.
    #[must_use]
    pub fn new(namespace: &str, name: &str, netns: Netns, netns_path: PathBuf) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: String::new(),
            container: String::new(),
            netns,
            netns_path,
        }
    }

    fn stored(stored: StoredPod, netns: Netns) -> Self {
        Self {
            namespace: stored.namespace,
            name: stored.name,
            uid: stored.uid,
            container: stored.container,
            netns,
            netns_path: stored.netns,
        }
    }
}

/// One enrolled pod, for whoever asks.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Enrolled {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Where its network namespace was opened.
    pub netns: PathBuf,
    /// Whether its identity is certified, so that tunnels work at once.
    pub ready: bool,
    /// Its identity, once the controller named it.
    pub identity: Option<SpiffeId>,
}

struct Entry {
    pod: Arc<Pod>,
    container: String,
    /// Descriptors of its listeners, to be handed over.
    sockets: Vec<OwnedFd>,
    /// Hangs up once the pod's listeners are closed.
    listening: mpsc::Receiver<Infallible>,
    certified: watch::Receiver<Option<SpiffeId>>,
}

struct Shared {
    mesh: Mesh,
    workers: Workers,
    runtime: Handle,
    drain: Drain,
    store: Store,
    keeper: Option<Keeper>,
    /// Held while something changes; true once another agent has taken over, and then nothing does.
    gate: Mutex<bool>,
    pods: Mutex<Vec<Entry>>,
    /// Pods of an earlier run that are captured, and whose network namespace was not found yet.
    lost: Mutex<Vec<StoredPod>>,
    superseded: channel::UnboundedSender<Superseded>,
    changed: Notify,
}

/// Everything that a successor needs. Nothing changes while this is held.
pub(super) struct Handing<'a> {
    gate: MutexGuard<'a, bool>,
    enrolment: &'a Enrolment,
    /// With the network namespace, and after it the listeners.
    pub(super) pods: Vec<(StoredPod, Vec<OwnedFd>)>,
    pub(super) cgroup: u64,
}

impl Handing<'_> {
    /// The successor serves the pods.
    pub(super) fn taken(&mut self, word: Superseded) {
        *self.gate = true;
        let shared = &self.enrolment.0;
        if let Some(Err(e)) = shared.keeper.as_ref().map(Keeper::supersede) {
            tracing::warn!("cannot tell that another agent has taken over: {e}");
        }
        // The receiver lives as long as the agent.
        let _ = shared.superseded.send(word);
    }
}

/// A pod that is captured, as the reconciler sees it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) netns: Netns,
}

/// The pods of this node. Cheap to clone; its calls block for some milliseconds.
#[derive(Clone)]
pub struct Enrolment(Arc<Shared>);

impl Enrolment {
    /// No pods yet. Their connections run on `workers` and end with `drain`; their certificates are
    /// asked for on `runtime`. The second value tells when another agent has taken over.
    #[must_use]
    pub fn new(
        mesh: Mesh,
        workers: Workers,
        runtime: Handle,
        drain: Drain,
        store: Store,
        keeper: Option<Keeper>,
    ) -> (Self, channel::UnboundedReceiver<Superseded>) {
        let (superseded, word) = channel::unbounded_channel();
        let enrolment = Self(Arc::new(Shared {
            mesh,
            workers,
            runtime,
            drain,
            store,
            keeper,
            gate: Mutex::default(),
            pods: Mutex::default(),
            lost: Mutex::default(),
            superseded,
            // The start is a change.
            changed: {
                let changed = Notify::new();
                changed.notify_one();
                changed
            },
        }));
        (enrolment, word)
    }

    /// Takes up the pods of an earlier run and clears what is left of those that are gone. A pod
    /// that cannot be taken up again stays closed: its new connections are refused. Listeners that a keeper
    /// held are in `kept`; pods whose network namespace is not where it was are looked for among `processes`.
    ///
    /// # Errors
    /// When the list cannot be read or the kernel's tables cannot.
    pub fn restore(
        &self,
        mut kept: HashMap<u64, Vec<OwnedFd>>,
        processes: Option<&Processes>,
    ) -> Result<(), EnrollError> {
        let datapath = &self.0.mesh.datapath;
        let failed = |e| EnrollError::Datapath("of an earlier run".into(), e);
        let captured = datapath.enrolled().map_err(failed)?;
        let mut alive = Vec::new();
        let mut lost = Vec::new();
        for stored in self.0.store.load()? {
            let name = format!("{}/{}", stored.namespace, stored.name);
            let cookie = stored.cookie;
            let there = Netns::open(&stored.netns).ok();
            if let Some(netns) = there.filter(|netns| netns.cookie() == cookie) {
                alive.push(cookie);
                let pod = NewPod::stored(stored, netns);
                match self.take_up(pod, kept.remove(&cookie)) {
                    Ok(()) => tracing::info!("pod {name} taken up again"),
                    Err(e) => tracing::error!("pod {name} stays closed: {e}"),
                }
            } else if processes.is_some() && !stored.uid.is_empty() && captured.contains(&cookie) {
                // The process by which it was found may have ended; the pod need not have.
                alive.push(cookie);
                tracing::info!("pod {name} is looked for; it stays closed until it is found");
                lost.push(stored);
            } else {
                tracing::info!("pod {name} is gone; it is un-enrolled");
            }
        }
        *self.lost() = lost;
        for cookie in captured {
            if !alive.contains(&cookie) {
                datapath.unenroll(cookie).map_err(failed)?;
            }
        }
        for cookie in kept.into_keys().filter(|cookie| !alive.contains(cookie)) {
            self.let_go(cookie);
        }
        datapath.retire_other_versions().map_err(failed)?;
        self.save(&self.lock())
    }

    /// Takes up the pods of the agent that serves them now. A pod that cannot be taken up stays closed once
    /// that agent has left.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read, or the list of pods cannot be kept.
    pub fn take_over(&self, from: &mut Predecessor) -> Result<(), EnrollError> {
        let datapath = &self.0.mesh.datapath;
        let failed = |e| EnrollError::Datapath("of the agent before".into(), e);
        datapath.add_agent(from.cgroup).map_err(failed)?;
        for (stored, netns, sockets) in from.pods.drain(..) {
            let name = format!("{}/{}", stored.namespace, stored.name);
            let taken = match Netns::from_fd(netns) {
                Ok(netns) => self.take_up(NewPod::stored(stored, netns), Some(sockets)),
                Err(e) => Err(EnrollError::Netns(name.clone(), stored.netns, e)),
            };
            match taken {
                Ok(()) => tracing::info!("pod {name} taken over"),
                Err(e) => tracing::error!("pod {name} stays closed: {e}"),
            }
        }
        datapath.retire_other_versions().map_err(failed)?;
        self.save(&self.lock())
    }

    fn take_up(&self, pod: NewPod, sockets: Option<Vec<OwnedFd>>) -> Result<(), EnrollError> {
        let listeners = sockets.and_then(|sockets| {
            Listeners::adopt(sockets, &pod.netns)
                .inspect_err(|e| {
                    tracing::warn!("pod {}/{} gets new listeners: {e}", pod.namespace, pod.name);
                })
                .ok()
        });
        let _gate = self.gate()?;
        self.put(pod, listeners)
    }

    /// Captures a pod. Done again for the same network namespace, it changes nothing; a pod of the
    /// same name with another one replaces the old.
    ///
    /// # Errors
    /// [`EnrollError`]; the pod is then not captured, unless it was before.
    pub fn add(&self, pod: NewPod) -> Result<(), EnrollError> {
        let _gate = self.gate()?;
        self.put(pod, None)
    }

    fn put(&self, pod: NewPod, listeners: Option<Listeners>) -> Result<(), EnrollError> {
        let shared = &self.0;
        let NewPod {
            namespace,
            name,
            uid,
            container,
            netns,
            netns_path,
        } = pod;
        let full = format!("{namespace}/{name}");
        let mut pods = self.lock();
        if let Some(held) = pods.iter().find(|e| e.pod.netns.cookie() == netns.cookie()) {
            let holder = held.pod.to_string();
            return if holder == full {
                Ok(())
            } else {
                Err(EnrollError::Taken(full, netns_path, holder))
            };
        }
        let addresses = interface_addresses(&netns)
            .map_err(|e| EnrollError::Netns(full.clone(), netns_path.clone(), e))?;
        if addresses.is_empty() {
            return Err(EnrollError::NoAddress(full, netns_path));
        }
        if let Some(old) = pods.iter().position(|e| e.pod.to_string() == full) {
            self.release(&mut pods[old])?;
            self.forget(&mut pods, old);
        }
        let refused = |e| EnrollError::Listen(full.clone(), e);
        let listeners = match listeners {
            Some(listeners) => listeners,
            None => Listeners::open(&netns, &shared.workers).map_err(refused)?,
        };
        let sockets = listeners.share().map_err(refused)?;
        let steered = listeners
            .steered()
            .ok_or_else(|| refused(io::Error::other("no data-plane worker runs")))?;
        shared
            .mesh
            .datapath
            .enroll(&netns, &addresses, &steered)
            .map_err(|e| EnrollError::Datapath(full.clone(), e))?;
        self.lost().retain(|lost| lost.cookie != netns.cookie());
        let pod = Arc::new(Pod {
            namespace,
            name,
            uid,
            netns,
            netns_path,
            addresses,
            drain: shared.drain.child(),
        });
        shared.mesh.direct.joined(&pod);
        shared.mesh.refuser.joined(&pod);
        let (closed, listening) = mpsc::channel();
        serve_pod(&shared.workers, &pod, listeners, &closed);
        drop(closed);
        let (certified, watch) = watch::channel(None);
        shared
            .runtime
            .spawn(certify(shared.mesh.clone(), pod.clone(), certified));
        self.keep(pod.netns.cookie(), &sockets);
        pods.push(Entry {
            pod,
            container,
            sockets,
            listening,
            certified: watch,
        });
        self.save(&pods)
    }

    /// Releases a pod: new connections are as without a mesh, open ones run on to their end, under
    /// policy as before.
    ///
    /// # Errors
    /// [`EnrollError`]; when the kernel refused, the pod stays captured.
    pub fn remove(&self, namespace: &str, name: &str) -> Result<(), EnrollError> {
        let _gate = self.gate()?;
        let full = format!("{namespace}/{name}");
        let mut pods = self.lock();
        let Some(at) = pods.iter().position(|e| e.pod.to_string() == full) else {
            return Err(EnrollError::NotEnrolled(full));
        };
        self.release(&mut pods[at])?;
        self.forget(&mut pods, at);
        self.save(&pods)
    }

    /// Releases a pod whose sandbox ends. That it is not enrolled, or has another sandbox by now, is no error.
    ///
    /// # Errors
    /// [`EnrollError`]; when the kernel refused, the pod stays captured.
    pub fn remove_sandbox(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Result<(), EnrollError> {
        let is_it = |entry: &Entry| {
            let named = entry.pod.namespace == namespace && entry.pod.name == name;
            named && (entry.container.is_empty() || entry.container == container)
        };
        if !self.lock().iter().any(is_it) {
            return Ok(());
        }
        match self.remove(namespace, name) {
            Err(EnrollError::NotEnrolled(_)) => Ok(()),
            done => done,
        }
    }

    fn release(&self, entry: &mut Entry) -> Result<(), EnrollError> {
        let (shared, pod) = (&self.0, &entry.pod);
        shared
            .mesh
            .datapath
            .unenroll(pod.netns.cookie())
            .map_err(|e| EnrollError::Datapath(pod.to_string(), e))?;
        shared.mesh.direct.left(pod);
        shared.mesh.refuser.left(pod);
        pod.drain.start();
        entry.sockets.clear();
        self.let_go(pod.netns.cookie());
        // Whoever is told that the pod is out may use its ports.
        let Err(_) = entry.listening.recv_timeout(CLOSED_WITHIN);
        shared.workers.forget_netns(pod.netns.cookie());
        Ok(())
    }

    /// Takes a released pod off the list; its certificate is renewed no longer, unless another pod
    /// has the same identity.
    fn forget(&self, pods: &mut Vec<Entry>, at: usize) {
        let gone = pods.remove(at);
        let identity = gone.certified.borrow().clone();
        if let Some(identity) = identity {
            let shared = pods
                .iter()
                .any(|e| e.certified.borrow().as_ref() == Some(&identity));
            if !shared {
                self.0.mesh.certificates.release(&identity);
            }
        }
    }

    /// The pods enrolled now.
    #[must_use]
    pub fn list(&self) -> Vec<Enrolled> {
        let describe = |entry: &Entry| {
            let identity = entry.certified.borrow().clone();
            Enrolled {
                namespace: entry.pod.namespace.clone(),
                name: entry.pod.name.clone(),
                netns: entry.pod.netns_path.clone(),
                ready: identity.is_some(),
                identity,
            }
        };
        self.lock().iter().map(describe).collect()
    }

    /// The same, with what the reconciler compares.
    pub(super) fn held(&self) -> Vec<Held> {
        let describe = |entry: &Entry| Held {
            namespace: entry.pod.namespace.clone(),
            name: entry.pod.name.clone(),
            uid: entry.pod.uid.clone(),
            netns: entry.pod.netns.clone(),
        };
        self.lock().iter().map(describe).collect()
    }

    /// Pods of an earlier run that were not found yet.
    pub(super) fn lost_pods(&self) -> Vec<StoredPod> {
        self.lost().clone()
    }

    /// Lets go of a lost pod: it is gone, or no longer in the mesh.
    pub(super) fn give_up(&self, lost: &StoredPod) -> Result<(), EnrollError> {
        let _gate = self.gate()?;
        let name = format!("{}/{}", lost.namespace, lost.name);
        let released = self.0.mesh.datapath.unenroll(lost.cookie);
        released.map_err(|e| EnrollError::Datapath(name, e))?;
        self.let_go(lost.cookie);
        self.lost().retain(|other| other.cookie != lost.cookie);
        self.save(&self.lock())
    }

    /// Everything that a successor needs; none when there was one already.
    pub(super) fn hand_over(&self) -> io::Result<Option<Handing<'_>>> {
        let Ok(gate) = self.gate() else {
            return Ok(None);
        };
        let copy = |entry: &Entry| {
            let mut descriptors = vec![entry.pod.netns.as_fd().try_clone_to_owned()?];
            for socket in &entry.sockets {
                descriptors.push(socket.try_clone()?);
            }
            Ok((stored(entry), descriptors))
        };
        let pods = self.lock().iter().map(copy).collect::<io::Result<_>>()?;
        Ok(Some(Handing {
            gate,
            enrolment: self,
            pods,
            cgroup: self.0.mesh.datapath.agent_cgroup(),
        }))
    }

    /// Once the drain has started: waits until nobody accepts here any more. What was accepted is among the
    /// live connections then; what was not is the successor's, or is refused. What a keeper holds stays.
    pub fn close(&self) {
        for entry in self.lock().iter_mut() {
            entry.sockets.clear();
            let Err(_) = entry.listening.recv_timeout(CLOSED_WITHIN);
        }
    }

    /// Has the keeper hold what it should: it may have been restarted.
    pub fn renew_kept(&self) {
        let Some(keeper) = &self.0.keeper else { return };
        // Nobody who is superseded has anything kept.
        let Ok(_gate) = self.gate() else { return };
        let known = match keeper.cookies() {
            Ok(known) => known,
            Err(e) => return tracing::warn!("a crash would refuse connections: {e}"),
        };
        for entry in self.lock().iter() {
            if !known.contains(&entry.pod.netns.cookie()) {
                self.keep(entry.pod.netns.cookie(), &entry.sockets);
            }
        }
    }

    fn keep(&self, cookie: u64, sockets: &[OwnedFd]) {
        let Some(keeper) = &self.0.keeper else { return };
        let sockets: Vec<_> = sockets.iter().map(|fd| fd.as_fd()).collect();
        if let Err(e) = keeper.keep(cookie, &sockets) {
            tracing::warn!("a crash would refuse connections: {e}");
        }
    }

    fn let_go(&self, cookie: u64) {
        if let Some(Err(e)) = self.0.keeper.as_ref().map(|keeper| keeper.release(cookie)) {
            tracing::warn!("listeners stay open until the keeper ends: {e}");
        }
    }

    /// Waits until nothing else changes.
    fn gate(&self) -> Result<MutexGuard<'_, bool>, EnrollError> {
        let gate = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
        match *gate {
            true => Err(EnrollError::Superseded),
            false => Ok(gate),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Vec<StoredPod>> {
        self.0.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when pods have come or gone, and no others for a moment.
    pub async fn settled(&self) {
        self.0.changed.notified().await;
        while tokio::time::timeout(QUIET_FOR, self.0.changed.notified())
            .await
            .is_ok()
        {}
    }

    fn save(&self, pods: &[Entry]) -> Result<(), EnrollError> {
        self.0.changed.notify_one();
        let mut all: Vec<_> = pods.iter().map(stored).collect();
        all.extend(self.lost().iter().cloned());
        Ok(self.0.store.save(&all)?)
    }
}

fn stored(entry: &Entry) -> StoredPod {
    StoredPod {
        namespace: entry.pod.namespace.clone(),
        name: entry.pod.name.clone(),
        uid: entry.pod.uid.clone(),
        container: entry.container.clone(),
        netns: entry.pod.netns_path.clone(),
        cookie: entry.pod.netns.cookie(),
    }
}

/// Has the pod's SVID fetched ahead of its first connection, and says when it is there.
async fn certify(mesh: Mesh, pod: Arc<Pod>, certified: watch::Sender<Option<SpiffeId>>) {
    let mut snapshot = mesh.snapshot.clone();
    let fetch = async {
        let known = snapshot.wait_for(|s| pod.workload(s).is_some()).await;
        let Some(workload) = known.ok().and_then(|s| pod.workload(&s)) else {
            return;
        };
        let identity = workload.identity();
        while let Err(e) = mesh.certificates.get(&identity).await {
            tracing::debug!(%pod, "no certificate yet: {e}");
            tokio::time::sleep(RETRY_EVERY).await;
        }
        certified.send_replace(Some(identity));
    };
    tokio::select! {
        () = fetch => {}
        () = pod.drain.started() => {}
    }
}
