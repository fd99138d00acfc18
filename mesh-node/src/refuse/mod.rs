//! Has the kernel refuse connections in the clear that no policy could allow, and tells of those that it refused.
//!
//! Every published state is compiled for each pod of this node into the ports at which such connections are
//! denied, whoever sends them. The kernel's table follows the state; the agent's own decision stays behind
//! it. A pod that the controller has not named has no entries: what comes for it is for the agent to judge.
//! While no agent runs, the last table stays in force. An agent that leaves changes nothing in it any more:
//! its successor may be there already.

mod lines;

use mesh_common::policy::{Verdict, refused_in_clear};
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

use crate::bpf::{Datapath, DatapathError, RefusedConnections, RefusedPorts};
use crate::drain::Drain;
use crate::observe::Observer;
use crate::pod::Pod;
use lines::Lines;

/// How often the kernel is asked what it has refused.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Stands for a policy that only an earlier agent could have named.
const UNKNOWN_POLICY: &str = "unknown";

struct Entry {
    pod: Arc<Pod>,
    /// As the last state had it.
    workload: Option<Arc<Workload>>,
    /// What the kernel was told; none when that is to be done (again).
    told: Option<RefusedPorts>,
    /// It was logged that the kernel takes no entries for this pod.
    complained: bool,
    lines: Lines,
}

struct Inner {
    datapath: Arc<Datapath>,
    observer: Observer,
    drain: Drain,
    /// The last state; none before the first, and then nothing is changed in the kernel.
    state: Option<Arc<Snapshot>>,
    /// By network namespace cookie.
    pods: HashMap<u64, Entry>,
}

/// Keeps the kernel's table as policy says. Cheap to clone; its calls may wait for an enrolment that is under way.
#[derive(Clone)]
pub struct Refuser(Option<Arc<Mutex<Inner>>>);

impl Refuser {
    /// Does its work until `drain` starts. Without `wanted` it does nothing, and takes back what an earlier
    /// agent had the kernel refuse.
    ///
    /// # Errors
    /// The kernel refuses to take it back.
    pub fn new(
        wanted: bool,
        datapath: Arc<Datapath>,
        observer: Observer,
        drain: Drain,
    ) -> Result<Self, DatapathError> {
        if !wanted {
            datapath.refuse_none()?;
            return Ok(Self(None));
        }
        Ok(Self(Some(Arc::new(Mutex::new(Inner {
            datapath,
            observer,
            drain,
            state: None,
            pods: HashMap::new(),
        })))))
    }

    /// Follows the published states until there are no more, and logs what was refused.
    pub async fn follow(self, mut snapshot: watch::Receiver<Arc<Snapshot>>) {
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = snapshot.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let state = snapshot.borrow_and_update().clone();
                    self.apply(&state);
                }
                _ = ask.tick() => self.report(),
            }
        }
    }

    /// Takes up a pod that was enrolled.
    pub fn joined(&self, pod: &Arc<Pod>) {
        let Some(mut inner) = self.lock() else { return };
        let entry = Entry {
            pod: pod.clone(),
            workload: None,
            told: None,
            complained: false,
            lines: Lines::default(),
        };
        let cookie = pod.netns.cookie();
        inner.pods.insert(cookie, entry);
        if let Some(state) = inner.state.clone() {
            inner.apply(cookie, &state);
        }
    }

    /// Lets go of a pod that was un-enrolled, and with it of its entries.
    pub fn left(&self, pod: &Pod) {
        let Some(mut inner) = self.lock() else { return };
        inner.report();
        if let Some(mut entry) = inner.pods.remove(&pod.netns.cookie()) {
            entry.lines.write_all(&entry.pod);
        }
    }

    /// Has the kernel's table follow a state.
    fn apply(&self, state: &Arc<Snapshot>) {
        let Some(mut inner) = self.lock() else { return };
        let cookies: Vec<u64> = inner.pods.keys().copied().collect();
        for cookie in cookies {
            inner.apply(cookie, state);
        }
        inner.state = Some(state.clone());
    }

    /// Brings the metrics, and from time to time the log, up to what the kernel has refused.
    pub fn report(&self) {
        if let Some(mut inner) = self.lock() {
            inner.report();
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        let inner = self.0.as_ref()?;
        // Each entry is changed as a whole or done again with the next state.
        Some(inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn apply(&mut self, cookie: u64, state: &Snapshot) {
        let Some(entry) = self.pods.get_mut(&cookie) else {
            return;
        };
        if self.drain.is_started() {
            return;
        }
        entry.workload = entry.pod.workload(state);
        let ports = entry
            .workload
            .as_ref()
            .map_or_else(RefusedPorts::default, |workload| compile(state, workload));
        if entry.told.as_ref() == Some(&ports) {
            return;
        }
        match self.datapath.refuse(cookie, &ports) {
            Ok(_) => {
                entry.told = Some(ports);
                entry.complained = false;
            }
            Err(e) => {
                entry.told = None;
                if !entry.complained {
                    tracing::warn!(pod = %entry.pod, "the kernel refuses nothing for this pod, the agent judges all of it: {e}");
                    entry.complained = true;
                }
            }
        }
    }

    fn report(&mut self) {
        if self.state.is_none() || self.drain.is_started() {
            // What an earlier agent's slots stand for is not known yet, or no longer this agent's to tell.
            return;
        }
        match self.datapath.take_refused() {
            Ok(all) => all.into_iter().for_each(|refused| self.count(refused)),
            Err(e) => tracing::warn!("cannot read what the kernel refused: {e}"),
        }
        let now = Instant::now();
        for entry in self.pods.values_mut() {
            entry.lines.write_due(&entry.pod, now);
        }
    }

    fn count(&mut self, refused: RefusedConnections) {
        let Some(entry) = self.pods.get_mut(&refused.netns) else {
            return;
        };
        let policy = refused.policy.unwrap_or_else(|| UNKNOWN_POLICY.into());
        self.observer.refused(
            &entry.pod.namespace,
            entry.workload.as_ref(),
            &policy,
            refused.count,
        );
        entry.lines.add(policy, refused.count, refused.last);
    }
}

/// The ports at which connections in the clear to this workload are denied, whoever sends them.
fn compile(state: &Snapshot, workload: &Workload) -> RefusedPorts {
    let refused = refused_in_clear(&state.policies_for(workload));
    let policy = |verdict: &Verdict| verdict.policy.clone();
    let exceptions = refused.exceptions().into_iter();
    RefusedPorts {
        others: refused.others().and_then(policy),
        exceptions: exceptions
            .map(|(port, verdict)| (port, verdict.and_then(policy)))
            .collect(),
    }
}
