//! The thread that does it all: one task, so that what it decides and what it is told are in one order.

use serde_json::Value;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::fast_path::FastPath;
use super::{DirectError, Figures, SameNode};
use crate::bpf::{Datapath, DirectEvents};
use crate::observe::Observer;
use crate::pod::Pod;
use crate::sys::watch_arrival;
use mesh_common::snapshot::Snapshot;

/// The lease is renewed, and what is lost is noticed, this often.
const TICK: Duration = Duration::from_secs(1);
/// Events are taken in batches: many connections cost few wake-ups.
const BATCH_EVERY: Duration = Duration::from_millis(10);
/// Events taken at once before other work has its turn.
const BATCH: usize = 4096;
/// Why connections are cut when the agent ends.
const DRAINED: &str = "closed at the drain deadline";
/// Connections that were cut say their last word within this time.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// Somebody may do without a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Namespace cookie of the connecting pod.
    pub(super) client: u64,
    /// Namespace cookie of the pod that has the destination's address.
    pub(super) server: u64,
    pub(super) destination: SocketAddr,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Control {
    Joined(Arc<Pod>),
    Left(u64),
    Restored,
    Describe(oneshot::Sender<Value>),
    Stop {
        deadline: Duration,
        done: oneshot::Sender<()>,
    },
    HandOver {
        done: oneshot::Sender<()>,
    },
}

/// How it is to end.
#[derive(Debug)]
enum End {
    Stop(Duration, oneshot::Sender<()>),
    /// Another agent goes on.
    HandOver(oneshot::Sender<()>),
}

/// Where it hears it.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) control: mpsc::UnboundedReceiver<Control>,
    pub(super) candidates: mpsc::Receiver<Candidate>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
}

pub(super) fn spawn(
    mode: SameNode,
    datapath: Arc<Datapath>,
    observer: Observer,
    inbox: Inbox,
    figures: Arc<Figures>,
) -> Result<(), DirectError> {
    let events = datapath.direct_events()?;
    let fast_path = FastPath::new(datapath, inbox.snapshot.clone(), observer, figures)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("same-node".into())
        .spawn(move || {
            let worker = async {
                Worker {
                    fast_path,
                    inbox,
                    arrival: watch_arrival(&events)?,
                    events,
                    more: false,
                }
                .run(mode)
                .await
            };
            if let Err(e) = runtime.block_on(worker) {
                tracing::error!("same-node: direct connections end with their lease: {e}");
            }
        })?;
    Ok(())
}

struct Worker {
    fast_path: FastPath,
    inbox: Inbox,
    events: DirectEvents,
    arrival: AsyncFd<OwnedFd>,
    /// Not all events were taken that were there.
    more: bool,
}

impl Worker {
    async fn run(mut self, mode: SameNode) -> io::Result<()> {
        if self.take_up(mode).await && mode == SameNode::Direct {
            self.serve().await?;
        }
        Ok(())
    }

    /// Waits for the pods of an earlier run, and for the first state. What was told meanwhile waits:
    /// nobody can be judged before. False when the agent ends first.
    async fn take_up(&mut self, mode: SameNode) -> bool {
        loop {
            match self.inbox.control.recv().await {
                None => return false,
                Some(Control::Restored) => break,
                Some(other) => {
                    if self.is_told_to_stop(other) {
                        return false;
                    }
                }
            }
        }
        if mode == SameNode::Tunnel {
            self.fast_path
                .cut_all("closed because --same-node is tunnel now");
            // They were another agent's to log.
            while self.events.next().is_some() {}
            return true;
        }
        loop {
            tokio::select! {
                changed = self.inbox.snapshot.changed() => return changed.is_ok(),
                control = self.inbox.control.recv() => match control {
                    None => return false,
                    Some(control) => {
                        if self.is_told_to_stop(control) {
                            return false;
                        }
                    }
                }
            }
        }
    }

    /// Does what it is told before there was any state; what is open nobody can judge when it ends.
    fn is_told_to_stop(&mut self, control: Control) -> bool {
        match self.control(control) {
            None => false,
            Some(End::Stop(..)) => {
                self.fast_path.cut_all(DRAINED);
                true
            }
            Some(End::HandOver(_)) => true,
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        self.take_events();
        self.fast_path.reconcile();
        self.fast_path.recheck();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_batch = Instant::now();
        loop {
            let next_look = self.fast_path.next_look().map(Instant::from_std);
            tokio::select! {
                changed = self.inbox.snapshot.changed() => match changed {
                    Ok(()) => self.fast_path.recheck(),
                    // The agent is about to end.
                    Err(_) => return Ok(()),
                },
                control = self.inbox.control.recv() => match control {
                    None => return Ok(()),
                    Some(control) => match self.control(control) {
                        None => {}
                        Some(End::Stop(deadline, done)) => {
                            self.stop(deadline).await?;
                            let _ = done.send(());
                            return Ok(());
                        }
                        Some(End::HandOver(done)) => {
                            // The successor knows of no exemption but its own.
                            self.fast_path.close();
                            self.take_events();
                            let _ = done.send(());
                            return Ok(());
                        }
                    },
                },
                Some(candidate) = self.inbox.candidates.recv() => self.fast_path.consider(candidate),
                ready = ready(&self.arrival, self.more, next_batch) => {
                    ready?;
                    self.take_events();
                    next_batch = Instant::now() + BATCH_EVERY;
                }
                () = until(next_look) => self.fast_path.look_again(),
                _ = tick.tick() => {
                    self.take_events();
                    self.fast_path.tick(true);
                }
            }
        }
    }

    /// Does what it is told; returns the order to stop.
    fn control(&mut self, control: Control) -> Option<End> {
        match control {
            Control::Joined(pod) => self.fast_path.joined(pod),
            Control::Left(cookie) => self.fast_path.left(cookie),
            Control::Restored => {}
            Control::Describe(reply) => {
                let _ = reply.send(self.fast_path.describe());
            }
            Control::Stop { deadline, done } => return Some(End::Stop(deadline, done)),
            Control::HandOver { done } => return Some(End::HandOver(done)),
        }
        None
    }

    /// No new connections; open ones have until the deadline.
    async fn stop(&mut self, deadline: Duration) -> io::Result<()> {
        self.fast_path.close();
        self.take_events();
        self.fast_path.reconcile();
        self.run_out(Instant::now() + deadline).await?;
        self.fast_path.cut_all(DRAINED);
        self.run_out(Instant::now() + LAST_WORD_WITHIN).await
    }

    /// Waits until no connection is open. Policy is looked after until then.
    async fn run_out(&mut self, deadline: Instant) -> io::Result<()> {
        let mut tick = interval(TICK);
        while !self.fast_path.is_idle() {
            tokio::select! {
                changed = self.inbox.snapshot.changed() => match changed {
                    Ok(()) => self.fast_path.recheck(),
                    Err(_) => return Ok(()),
                },
                ready = timeout_at(deadline, ready(&self.arrival, self.more, Instant::now())) => match ready {
                    Ok(ready) => {
                        ready?;
                        self.take_events();
                    }
                    Err(_) => return Ok(()),
                },
                _ = tick.tick() => {
                    self.take_events();
                    self.fast_path.tick(false);
                }
            }
        }
        Ok(())
    }

    fn take_events(&mut self) {
        for _ in 0..BATCH {
            let Some(event) = self.events.next() else {
                self.more = false;
                return;
            };
            self.fast_path.event(&event);
        }
        self.more = true;
    }
}

/// Completes when there are events, not before `earliest`. The kernel tells of the first one only: whoever
/// leaves some knows that there is `more`.
async fn ready(arrival: &AsyncFd<OwnedFd>, more: bool, earliest: Instant) -> io::Result<()> {
    sleep_until(earliest).await;
    if !more {
        arrival.readable().await?.clear_ready();
    }
    Ok(())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
