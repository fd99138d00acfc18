//! Adds and removes pods, one at a time, in an order that never leaves a gap.

use mesh_common::identity::SpiffeId;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::store::{Store, StoreError, StoredPod};
use crate::bpf::DatapathError;
use crate::drain::Drain;
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
    pods: Mutex<Vec<Entry>>,
    changed: Notify,
}

/// The pods of this node. Cheap to clone; its calls block for some milliseconds.
#[derive(Clone)]
pub struct Enrolment(Arc<Shared>);

impl Enrolment {
    /// No pods yet. Their connections run on `workers` and end with `drain`; their certificates are
    /// asked for on `runtime`.
    #[must_use]
    pub fn new(mesh: Mesh, workers: Workers, runtime: Handle, drain: Drain, store: Store) -> Self {
        let pods = Mutex::default();
        Self(Arc::new(Shared {
            mesh,
            workers,
            runtime,
            drain,
            store,
            pods,
            // The start is a change.
            changed: {
                let changed = Notify::new();
                changed.notify_one();
                changed
            },
        }))
    }

    /// Takes up the pods of an earlier run and clears what is left of those that are gone. A pod
    /// that cannot be taken up again stays closed: its new connections are refused.
    ///
    /// # Errors
    /// When the list cannot be read or the kernel's tables cannot.
    pub fn restore(&self) -> Result<(), EnrollError> {
        let mut alive = Vec::new();
        for stored in self.0.store.load()? {
            let name = format!("{}/{}", stored.namespace, stored.name);
            match Netns::open(&stored.netns) {
                Ok(netns) if netns.cookie() == stored.cookie => {
                    alive.push(stored.cookie);
                    match self.add(&stored.namespace, &stored.name, netns, stored.netns) {
                        Ok(()) => tracing::info!("pod {name} taken up again"),
                        Err(e) => tracing::error!("pod {name} stays closed: {e}"),
                    }
                }
                _ => tracing::info!("pod {name} is gone; it is un-enrolled"),
            }
        }
        let datapath = &self.0.mesh.datapath;
        let failed = |e| EnrollError::Datapath("of an earlier run".into(), e);
        for cookie in datapath.enrolled().map_err(failed)? {
            if !alive.contains(&cookie) {
                datapath.unenroll(cookie).map_err(failed)?;
            }
        }
        self.save(&self.lock())
    }

    /// Captures a pod. Done again for the same network namespace, it changes nothing; a pod of the
    /// same name with another one replaces the old.
    ///
    /// # Errors
    /// [`EnrollError`]; the pod is then not captured, unless it was before.
    pub fn add(
        &self,
        namespace: &str,
        name: &str,
        netns: Netns,
        netns_path: PathBuf,
    ) -> Result<(), EnrollError> {
        let shared = &self.0;
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
            self.release(&pods[old])?;
            self.forget(&mut pods, old);
        }
        let refused = |e| EnrollError::Listen(full.clone(), e);
        let listeners = Listeners::open(&netns, &shared.workers).map_err(refused)?;
        let steered = listeners
            .steered()
            .ok_or_else(|| refused(io::Error::other("no data-plane worker runs")))?;
        shared
            .mesh
            .datapath
            .enroll(&netns, &addresses, &steered)
            .map_err(|e| EnrollError::Datapath(full.clone(), e))?;
        let pod = Arc::new(Pod {
            namespace: namespace.into(),
            name: name.into(),
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
        pods.push(Entry {
            pod,
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
        let full = format!("{namespace}/{name}");
        let mut pods = self.lock();
        let Some(at) = pods.iter().position(|e| e.pod.to_string() == full) else {
            return Err(EnrollError::NotEnrolled(full));
        };
        self.release(&pods[at])?;
        self.forget(&mut pods, at);
        self.save(&pods)
    }

    fn release(&self, entry: &Entry) -> Result<(), EnrollError> {
        let (shared, pod) = (&self.0, &entry.pod);
        shared
            .mesh
            .datapath
            .unenroll(pod.netns.cookie())
            .map_err(|e| EnrollError::Datapath(pod.to_string(), e))?;
        shared.mesh.direct.left(pod);
        shared.mesh.refuser.left(pod);
        pod.drain.start();
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

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
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
        let stored: Vec<_> = pods
            .iter()
            .map(|entry| StoredPod {
                namespace: entry.pod.namespace.clone(),
                name: entry.pod.name.clone(),
                netns: entry.pod.netns_path.clone(),
                cookie: entry.pod.netns.cookie(),
            })
            .collect();
        Ok(self.0.store.save(&stored)?)
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
