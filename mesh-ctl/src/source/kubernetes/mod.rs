//! The Kubernetes API as a source.
//!
//! Every kind has a watch of its own. The first state is handed on when all kinds have been listed, policies
//! last; after that changes are, in small batches. A watch that breaks goes on where it was; one that
//! cannot is replaced by a list that is compared with what is known. At no time is less known than before.

mod api;
mod backoff;
mod batch;
mod decode;
mod held;
mod metrics;
mod resource;
mod status;
mod verdict;
mod watcher;

pub use metrics::WatchMetrics;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::batch::Batch;
use self::held::Held;
use self::status::Writer;
use self::verdict::Verdicts;
use self::watcher::{Message, Watcher};
use super::Sink;
use crate::lease::Lease;
use crate::model::Objects;

/// Messages under way from all watches; a watch waits when there are more.
const UNDER_WAY: usize = 64;

/// The Kubernetes API server as a source of objects.
pub struct KubernetesSource {
    client: Client,
    metrics: WatchMetrics,
    verdicts: Verdicts,
    lease: Option<Lease>,
}

impl KubernetesSource {
    /// Reads from the server that `client` leads to.
    pub fn new(client: Client, metrics: WatchMetrics) -> Self {
        Self {
            client,
            metrics,
            verdicts: Verdicts::default(),
            lease: None,
        }
    }

    /// Has the source tell in a policy's status when it is not enforced as it was written, while this
    /// replica holds the lease.
    #[must_use]
    pub fn writing_status(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Follows the server until `stop`. `sink` gets the first state once every kind is known; until then
    /// it gets nothing.
    pub async fn run(mut self, mut sink: impl Sink, stop: CancellationToken) {
        let lease = self.lease.take().map(|lease| lease.start(stop.clone()));
        let writer = Writer::new(self.client.clone(), self.verdicts.subscribe());
        let write = async {
            if let Some((held, _)) = &lease {
                writer.run(held.clone()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(&mut sink) => {}
            () = write => {}
        }
        if let Some((_, task)) = lease {
            // It gives the lease back.
            let _ = task.await;
        }
    }

    async fn follow(&self, sink: &mut impl Sink) {
        let (to, mut messages) = mpsc::channel(UNDER_WAY);
        let (policies, begin_policies) = watch::channel(false);
        let (_others, begin_others) = watch::channel(true);
        let reached = Arc::new(Notify::new());
        let mut watchers = JoinSet::new();
        for (index, resource) in resource::ALL.iter().enumerate() {
            let watcher = Watcher {
                client: self.client.clone(),
                index,
                to: to.clone(),
                metrics: self.metrics.clone(),
                verdicts: self.verdicts.clone(),
                reached: Arc::clone(&reached),
                held: Held::default(),
                misses: 0,
            };
            let begin = match resource.policy {
                true => begin_policies.clone(),
                false => begin_others.clone(),
            };
            watchers.spawn(watcher.run(begin));
        }
        drop(to);
        let hand_on = async {
            let mut batch = Batch::default();
            let Some(objects) = first_state(&mut messages, &mut batch, &policies).await else {
                return;
            };
            sink.replace(objects);
            while let Some(changes) = next_batch(&mut messages, &mut batch).await {
                sink.change(changes);
            }
        };
        tokio::select! {
            () = hand_on => {}
            Some(Err(ended)) = watchers.join_next() => {
                // Without it a kind would stand still unnoticed.
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// Everything that there is, once every kind is known. Policies are listed when all else is: whatever
/// workload the state has, the policies are at least as new.
async fn first_state(
    messages: &mut mpsc::Receiver<Message>,
    batch: &mut Batch,
    policies: &watch::Sender<bool>,
) -> Option<Objects> {
    let mut objects = Objects::default();
    let mut unknown: BTreeSet<usize> = (0..resource::ALL.len()).collect();
    while !unknown.is_empty() {
        match messages.recv().await? {
            Message::Changes(changes) => objects.apply(changes),
            Message::Current(kind) => {
                unknown.remove(&kind);
                batch.current(kind, Instant::now());
                if unknown.iter().all(|kind| resource::ALL[*kind].policy) {
                    policies.send_replace(true);
                }
            }
            Message::Behind(kind) => batch.behind(kind, Instant::now()),
        }
    }
    tracing::info!(objects = objects.len(), "every kind is known");
    Some(objects)
}

async fn next_batch(
    messages: &mut mpsc::Receiver<Message>,
    batch: &mut Batch,
) -> Option<Vec<crate::model::Change>> {
    loop {
        let due = batch.due();
        if due.is_some_and(|due| due <= Instant::now()) {
            return Some(batch.take());
        }
        let message = match due {
            Some(due) => match timeout_at(due, messages.recv()).await {
                Ok(message) => message?,
                Err(_) => continue,
            },
            None => messages.recv().await?,
        };
        match message {
            Message::Changes(changes) => batch.add(changes, Instant::now()),
            Message::Current(kind) => batch.current(kind, Instant::now()),
            Message::Behind(kind) => batch.behind(kind, Instant::now()),
        }
    }
}
