//! The data plane's threads: one for each core, each with a runtime, connections and tunnels of its
//! own. A connection stays on the thread that accepted it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::Mesh;
use crate::busy_poll;
use crate::hbone::Pool;
use crate::socket::CongestionControl;

/// Workers that listen for one pod. More would cost every pod sockets, and few pods are that busy.
const LISTENING: usize = 4;

/// What a connection works with on its thread.
pub(super) struct Worker {
    /// What all workers share.
    pub(super) mesh: Mesh,
    /// The tunnels of this thread.
    pub(super) pool: Pool,
    pub(super) tuning: Tuning,
}

/// What is set for speed.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Of tunnels.
    pub congestion: CongestionControl,
    /// How long a thread may look for a small message before it sleeps.
    pub busy_poll: Duration,
}

type Job = Box<dyn FnOnce(&Rc<Worker>) + Send>;

/// The threads. Cheap to clone; they end when the last clone is dropped and nothing is left to do.
#[derive(Clone, Debug)]
pub struct Workers {
    tuning: Tuning,
    jobs: Arc<[UnboundedSender<Job>]>,
    next: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` workers, at least one.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub fn start(count: usize, mesh: &Mesh, tuning: &Tuning) -> io::Result<Self> {
        let jobs = (0..count.max(1)).map(|number| start(number, mesh.clone(), tuning.clone()));
        Ok(Self {
            tuning: tuning.clone(),
            jobs: jobs.collect::<io::Result<_>>()?,
            next: Arc::default(),
        })
    }

    /// What is set for speed.
    pub(super) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// How many of them listen for one pod.
    #[must_use]
    pub(super) fn listening(&self) -> usize {
        self.jobs.len().min(LISTENING)
    }

    /// Runs one of `jobs` on each of as many workers; the next call begins with others.
    pub(super) fn spread(&self, jobs: impl ExactSizeIterator<Item = Job>) {
        let first = self.next.fetch_add(jobs.len(), Ordering::Relaxed);
        for (worker, job) in self
            .jobs
            .iter()
            .cycle()
            .skip(first % self.jobs.len())
            .zip(jobs)
        {
            // A worker hangs up only when the agent ends.
            let _ = worker.send(job);
        }
    }

    /// Lets go of every tunnel dialled from a network namespace (its cookie); open streams run on.
    pub fn forget_netns(&self, cookie: u64) {
        for worker in &*self.jobs {
            let _ = worker.send(Box::new(move |worker| worker.pool.forget_netns(cookie)));
        }
    }
}

fn start(number: usize, mesh: Mesh, tuning: Tuning) -> io::Result<UnboundedSender<Job>> {
    let (sender, mut jobs) = unbounded_channel::<Job>();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(format!("data-plane-{number}"))
        .spawn(move || {
            let pool = Pool::new(mesh.tunnels.clone());
            let busy_poll = tuning.busy_poll;
            let worker = Rc::new(Worker { mesh, pool, tuning });
            let local = LocalSet::new();
            if busy_poll > Duration::ZERO {
                local.spawn_local(busy_poll::run(busy_poll));
            }
            local.spawn_local(worker.pool.clone().sweep());
            local.block_on(&runtime, async move {
                while let Some(job) = jobs.recv().await {
                    job(&worker);
                }
            });
        })?;
    Ok(sender)
}
