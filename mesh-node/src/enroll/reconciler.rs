//! Brings what is captured in line with what the controller says, for pods that run already.
//!
//! A pod goes in once the controller names it with its addresses and one of its processes is found in a network
//! namespace that has them. It goes out when the controller says that it is out, or when it is neither named nor
//! running any more. A pod that is merely not named stays in: a controller that lost its memory opens nothing.

use rustix::fs::fstat;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::answer::{Answer, KnownPod};
use super::manager::{EnrollError, Enrolment, Held, NewPod};
use super::process::Processes;

/// How often a pod that was not found is looked for.
const SEARCH_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether pods are where they were.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The reconciler.
pub struct Reconciler {
    enrolment: Enrolment,
    processes: Processes,
    state_dir: PathBuf,
    saved: Answer,
    /// Pods, by uid, that were named or that ran: only those can be gone. Another is still being made.
    seen: HashSet<String>,
    /// What was complained about, by uid: each thing once.
    told: HashMap<String, String>,
}

impl Reconciler {
    /// Keeps the controller's answers in `state_dir`.
    #[must_use]
    pub fn new(enrolment: Enrolment, processes: Processes, state_dir: PathBuf) -> Self {
        Self {
            enrolment,
            processes,
            state_dir,
            saved: Answer::default(),
            seen: HashSet::new(),
            told: HashMap::new(),
        }
    }

    /// Follows the controller until another agent takes over.
    pub async fn run(mut self, mut answers: watch::Receiver<Option<Arc<Answer>>>) {
        loop {
            let answer = answers.borrow_and_update().clone();
            let pass = move || {
                let outcome = answer.map_or(Ok(false), |answer| self.pass(&answer));
                (self, outcome)
            };
            let Ok((back, outcome)) = tokio::task::spawn_blocking(pass).await else {
                return tracing::error!("enrolment: the reconciler has failed; restart the agent");
            };
            self = back;
            let pause = match outcome {
                Ok(true) => SEARCH_EVERY,
                Ok(false) => LOOK_EVERY,
                Err(EnrollError::Superseded) => return,
                Err(e) => {
                    tracing::error!("enrolment: {e}");
                    SEARCH_EVERY
                }
            };
            tokio::select! {
                changed = answers.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One comparison; true when a pod is still to be found.
    fn pass(&mut self, answer: &Answer) -> Result<bool, EnrollError> {
        if self.saved != *answer {
            answer.save(&self.state_dir)?;
            self.saved.clone_from(answer);
        }
        let held = self.enrolment.held();
        let lost = self.enrolment.lost_pods();
        let named: HashMap<&str, &KnownPod> =
            answer.pods.iter().map(|pod| (&*pod.uid, pod)).collect();
        let mut uids: HashSet<&str> = named
            .keys()
            .copied()
            .filter(|uid| !uid.is_empty())
            .collect();
        uids.extend(held.iter().map(|held| &*held.uid));
        uids.extend(lost.iter().map(|lost| &*lost.uid));
        let running = match self.processes.of(&uids) {
            Ok(running) => running,
            Err(e) => {
                tracing::error!("enrolment: the node's processes cannot be listed: {e}");
                return Ok(true);
            }
        };
        self.seen.retain(|uid| uids.contains(&**uid));
        let alive = uids
            .iter()
            .filter(|uid| named.contains_key(**uid) || running.contains_key(**uid));
        self.seen.extend(alive.map(|uid| (*uid).to_owned()));
        let processes = |uid: &str| running.get(uid).map_or(&[][..], Vec::as_slice);
        let same_name = |pod: &Held| {
            let is = |known: &&KnownPod| known.namespace == pod.namespace && known.name == pod.name;
            answer.pods.iter().find(is)
        };
        for pod in &held {
            let known = match pod.uid.is_empty() {
                true => same_name(pod),
                false => named.get(&*pod.uid).copied(),
            };
            let out = match known {
                Some(known) => !known.enrolled,
                None => {
                    !pod.uid.is_empty()
                        && processes(&pod.uid).is_empty()
                        && self.seen.contains(&pod.uid)
                }
            };
            if out {
                self.release(pod)?;
            }
        }
        for pod in &lost {
            let out = match named.get(&*pod.uid) {
                Some(known) => !known.enrolled,
                None => processes(&pod.uid).is_empty(),
            };
            if out {
                self.enrolment.give_up(pod)?;
            }
        }
        let mut missing = false;
        for pod in answer
            .pods
            .iter()
            .filter(|pod| pod.enrolled && !pod.uid.is_empty())
        {
            let processes = processes(&pod.uid);
            if pod.addresses.is_empty() || is_held(&held, pod, &self.processes, processes) {
                continue;
            }
            match self.enroll(pod, processes) {
                Ok(()) => {
                    self.told.remove(&pod.uid);
                }
                Err(why) => {
                    missing = true;
                    if self.told.insert(pod.uid.clone(), why.clone()).as_ref() != Some(&why) {
                        let (namespace, name) = (&pod.namespace, &pod.name);
                        tracing::warn!("pod {namespace}/{name} is not captured yet: {why}");
                    }
                }
            }
        }
        self.told.retain(|uid, _| named.contains_key(&**uid));
        Ok(missing)
    }

    fn enroll(&self, pod: &KnownPod, processes: &[u32]) -> Result<(), String> {
        let found = self.processes.netns(&pod.uid, &pod.addresses, processes);
        let found = found.map_err(|e| e.to_string())?;
        let new = NewPod {
            uid: pod.uid.clone(),
            ..NewPod::new(&pod.namespace, &pod.name, found.netns, found.path)
        };
        self.enrolment.add(new).map_err(|e| e.to_string())?;
        tracing::info!("pod {}/{} is captured", pod.namespace, pod.name);
        Ok(())
    }

    fn release(&self, pod: &Held) -> Result<(), EnrollError> {
        match self.enrolment.remove(&pod.namespace, &pod.name) {
            Ok(()) => tracing::info!("pod {}/{} is captured no more", pod.namespace, pod.name),
            // Its sandbox ended meanwhile.
            Err(EnrollError::NotEnrolled(_)) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Whether the pod is captured where its processes are.
fn is_held(held: &[Held], pod: &KnownPod, all: &Processes, processes: &[u32]) -> bool {
    let named = |held: &&Held| held.namespace == pod.namespace && held.name == pod.name;
    let Some(held) = held.iter().find(named) else {
        return false;
    };
    let same = held.uid == pod.uid || held.uid.is_empty();
    // A pod without processes is one whose sandbox is starting or ending.
    let inode = fstat(&held.netns).map_or(0, |found| found.st_ino);
    same && (processes.is_empty() || all.is_in(inode, processes))
}
