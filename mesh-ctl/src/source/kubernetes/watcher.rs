//! One kind, followed: listed once, then watched; listed again when the server has forgotten where the
//! watch was. What is known stays known throughout.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch};

use super::api::{self, Event, Failure};
use super::backoff::Backoff;
use super::decode::{self, Decoded};
use super::held::Held;
use super::metrics::WatchMetrics;
use super::resource::{self, Resource};
use super::verdict::Verdicts;
use crate::model::Change;

/// A kind that is absent is looked for again after this.
const ABSENT: Duration = Duration::from_secs(5);
/// A kind of which there are objects is taken for absent only when the server has said so this often.
const CERTAIN: u32 = 3;

/// What a watcher tells.
pub(super) enum Message {
    /// Something changed.
    Changes(Vec<Change>),
    /// The kind is known as the server has it, or surely absent.
    Current(usize),
    /// The watch was lost.
    Behind(usize),
}

/// Follows one kind.
pub(super) struct Watcher {
    pub(super) client: Client,
    /// The kind's place in [`resource::ALL`].
    pub(super) index: usize,
    pub(super) to: mpsc::Sender<Message>,
    pub(super) metrics: WatchMetrics,
    pub(super) verdicts: Verdicts,
    /// Woken when the server answers anyone: the others need not wait any longer.
    pub(super) reached: Arc<Notify>,
    pub(super) held: Held,
    pub(super) misses: u32,
}

/// Where a watch goes on.
struct Position {
    path: &'static str,
    version: String,
}

/// Nobody listens any more.
struct Stopped;

enum Stop {
    Failed(Failure),
    Stopped,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Stopped> for Stop {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Watcher {
    /// Follows the kind until nobody listens. It is listed once `begin` is true.
    pub(super) async fn run(mut self, mut begin: watch::Receiver<bool>) {
        if begin.wait_for(|begin| *begin).await.is_err() {
            return;
        }
        let kind = self.resource().kind;
        let mut position = None;
        let mut backoff = Backoff::default();
        loop {
            let failure = match self.step(&mut position, &mut backoff).await {
                Ok(()) => continue,
                Err(Stop::Stopped) => return,
                Err(Stop::Failed(failure)) => failure,
            };
            self.metrics.restarted(kind, failure.reason());
            // A watch that goes on does not tell when it has caught up, and others wait for policies: those
            // are listed again, which does.
            let relist = self.resource().policy
                || matches!(
                    failure,
                    Failure::Gone | Failure::NotServed | Failure::NotUnderstood(_)
                );
            if relist {
                position = None;
            }
            let wait = backoff.next();
            match &failure {
                Failure::Gone => tracing::info!(kind, "{failure}; it is listed again"),
                Failure::Refused {
                    code: 401 | 403, ..
                } => tracing::warn!(
                    kind, retry = ?wait,
                    "{failure}; allow this service account to list and watch {kind} objects"
                ),
                _ => tracing::warn!(
                    kind, retry = ?wait, "{failure}; what is known of it stays in force"
                ),
            }
            if self.to.send(Message::Behind(self.index)).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.reached.notified() => {}
                () = self.to.closed() => return,
            }
        }
    }

    fn resource(&self) -> &'static Resource {
        &resource::ALL[self.index]
    }

    /// One watch from its opening to its end, with a list before it when there is no position.
    async fn step(
        &mut self,
        position: &mut Option<Position>,
        backoff: &mut Backoff,
    ) -> Result<(), Stop> {
        let at = match position.take() {
            Some(at) => at,
            None => match self.list().await? {
                Some(at) => at,
                None => {
                    backoff.reset();
                    self.current().await?;
                    tokio::select! {
                        () = tokio::time::sleep(ABSENT) => return Ok(()),
                        () = self.to.closed() => return Err(Stop::Stopped),
                    }
                }
            },
        };
        let at = position.insert(at);
        let resource = self.resource();
        let mut watch = api::watch(&self.client, at.path, resource, &at.version).await?;
        backoff.reset();
        self.current().await?;
        while let Some(event) = tokio::select! {
            event = watch.next() => event?,
            () = self.to.closed() => return Err(Stop::Stopped),
        } {
            if let Some(change) = self.event(&event, &mut at.version)? {
                self.send(vec![change]).await?;
            }
        }
        self.metrics.restarted(resource.kind, "ended");
        Ok(())
    }

    /// Lists the kind and tells what is different; `None` when the server surely does not have it.
    async fn list(&mut self) -> Result<Option<Position>, Stop> {
        match self.list_anywhere().await? {
            Some(position) => {
                self.misses = 0;
                Ok(Some(position))
            }
            None if !self.resource().optional => Err(Failure::NotServed.into()),
            None => {
                // A server that has just started may not have read its CRDs: it must say that it is ready
                // before it is believed.
                api::is_ready(&self.client).await?;
                if let Some(position) = self.list_anywhere().await? {
                    return Ok(Some(position));
                }
                self.misses += 1;
                if self.held.len() > 0 && self.misses < CERTAIN {
                    return Err(Failure::NotServed.into());
                }
                self.held.begin();
                let gone = self.held.finish(self.resource().kind);
                self.forget(&gone);
                self.send(gone).await?;
                Ok(None)
            }
        }
    }

    /// Lists the kind in the first version that the server has.
    async fn list_anywhere(&mut self) -> Result<Option<Position>, Stop> {
        for path in self.resource().paths() {
            match self.list_at(path).await {
                Ok(version) => return Ok(Some(Position { path, version })),
                Err(Stop::Failed(Failure::NotServed)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(None)
    }

    async fn list_at(&mut self, path: &str) -> Result<String, Stop> {
        let resource = self.resource();
        self.held.begin();
        let mut next = None;
        loop {
            let page = api::list(&self.client, path, resource, next.as_deref()).await?;
            let (list, changes) = {
                let items = page.parse()?;
                let mut changes = Vec::new();
                for item in items.items.unwrap_or_default() {
                    let decoded = decode::decode(resource.kind, item.get());
                    changes.extend(self.take(decoded.map_err(Failure::from)?));
                }
                (items.list, changes)
            };
            drop(page);
            self.send(changes).await?;
            next = list.next.filter(|next| !next.is_empty());
            if next.is_none() {
                let gone = self.held.finish(resource.kind);
                self.forget(&gone);
                self.send(gone).await?;
                self.metrics.listed(resource.kind);
                return Ok(list.resource_version);
            }
        }
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        version: &mut String,
    ) -> Result<Option<Change>, Failure> {
        let kind = self.resource().kind;
        let change = match event {
            Event::Set(text) => {
                let decoded = decode::decode(kind, text)?;
                *version = decoded.version.to_string();
                self.take(decoded)
            }
            Event::Removed(text) => {
                let (name, at) = decode::removed(text)?;
                *version = at.into();
                let gone = self.held.remove(kind, name);
                self.forget(gone.as_slice());
                gone
            }
            Event::Bookmark(text) => {
                *version = decode::bookmark(text)?;
                None
            }
        };
        self.heard();
        Ok(change)
    }

    fn take(&mut self, decoded: Decoded) -> Option<Change> {
        let kind = self.resource().kind;
        let (name, generation) = (decoded.name.clone(), decoded.generation);
        let taken = self.held.take(kind, decoded);
        if let Some(problem) = &taken.problem {
            tracing::warn!("{kind} {name}: {}; {}", problem.text, problem.instead);
        }
        if self.resource().policy {
            self.verdicts.judge(kind, &name, generation, &taken);
        }
        taken.change
    }

    fn forget(&self, gone: &[Change]) {
        if self.resource().policy {
            self.verdicts.forget(gone);
        }
    }

    fn heard(&self) {
        let kind = self.resource().kind;
        self.metrics
            .heard(kind, self.held.len(), self.held.invalid());
    }

    async fn current(&mut self) -> Result<(), Stopped> {
        self.heard();
        self.reached.notify_waiters();
        let sent = self.to.send(Message::Current(self.index)).await;
        sent.map_err(|_| Stopped)
    }

    async fn send(&mut self, changes: Vec<Change>) -> Result<(), Stopped> {
        if changes.is_empty() {
            return Ok(());
        }
        let sent = self.to.send(Message::Changes(changes)).await;
        sent.map_err(|_| Stopped)
    }
}
