//! The root bundle as a ConfigMap in every enrolled namespace, for whoever must trust the mesh.
//!
//! The replica that holds the lease writes it, and writes it again when it is edited or deleted. One that
//! somebody else keeps changing is repaired ever less often, so that two writers cost little.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Authority, material};
use crate::metrics::Metrics;

/// The pause between two writes of one ConfigMap, at first...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ...and at most; it doubles while there is something to write again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where the bundle belongs.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the ConfigMap.
    pub name: String,
    /// Label of an enrolled namespace.
    pub label: String,
    /// Its value.
    pub value: String,
    /// Namespaces that need it although they are not enrolled, if they exist: where the node agents run.
    pub always: BTreeSet<String>,
}

/// Keeps the ConfigMaps as they should be.
pub struct Publisher {
    client: Client,
    target: Target,
    authority: Arc<Authority>,
    metrics: Metrics,
}

/// What is known of one namespace.
#[derive(Default)]
struct Namespaced {
    enrolled: bool,
    /// The bundle in its ConfigMap; `None` when there is no ConfigMap.
    published: Option<Option<String>>,
    written: Option<Written>,
}

/// The last write of a ConfigMap, and how long the next one waits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    at: Instant,
    pause: Duration,
}

impl Written {
    /// A write at `now` after `last`; the time to wait for when that is too early.
    fn next(last: Option<Self>, now: Instant) -> Result<Self, Instant> {
        let pause = match last {
            Some(last) if now < last.at + last.pause => return Err(last.at + last.pause),
            Some(last) if now < last.at + 2 * last.pause => (last.pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        Ok(Self { at: now, pause })
    }
}

enum Event {
    Namespace(String, bool),
    /// A listing begins: what it does not name is gone.
    Namespaces,
    ConfigMap(String, Option<Option<String>>),
    ConfigMaps,
    /// Listings are complete, and the store can be believed.
    Listed(Listing),
}

#[derive(Clone, Copy)]
enum Listing {
    Namespaces,
    ConfigMaps,
}

type Known = HashMap<String, Namespaced>;

impl Publisher {
    /// Publishes the roots of `authority`.
    pub fn new(
        client: Client,
        target: Target,
        authority: Arc<Authority>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            target,
            authority,
            metrics,
        }
    }

    /// Publishes while `held`, until `stop`.
    pub async fn run(self, mut held: watch::Receiver<bool>, stop: CancellationToken) {
        let work = async {
            // The holder of the lease is gone: so is this process' reason to go on.
            while held.wait_for(|held| *held).await.is_ok() {
                let mut lost = held.clone();
                tokio::select! {
                    () = self.publish() => {}
                    _ = lost.wait_for(|held| !held) => {}
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    async fn publish(&self) {
        let mut events = stream::select(self.namespaces(), self.config_maps());
        let mut signer = self.authority.subscribe();
        let mut known = Known::new();
        let (mut namespaces, mut config_maps) = (false, false);
        loop {
            let roots = signer.borrow_and_update().roots_pem();
            let next = if namespaces && config_maps {
                self.repair(&mut known, &roots).await
            } else {
                None
            };
            tokio::select! {
                event = events.next() => match event {
                    None => return,
                    Some(Event::Listed(Listing::Namespaces)) => namespaces = true,
                    Some(Event::Listed(Listing::ConfigMaps)) => config_maps = true,
                    Some(event) => learn(&mut known, event),
                },
                _ = signer.changed() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Writes what is missing or wrong; when to look again at what must wait.
    async fn repair(&self, known: &mut Known, roots: &str) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (name, namespace) in known.iter_mut() {
            let good = namespace.published.as_ref().map(Option::as_deref) == Some(Some(roots));
            if !namespace.enrolled || good {
                continue;
            }
            let now = Instant::now();
            let again = match Written::next(namespace.written, now) {
                Err(at) => {
                    next = Some(next.map_or(at, |next| next.min(at)));
                    continue;
                }
                Ok(written) => {
                    namespace.written = Some(written);
                    now + written.pause
                }
            };
            // If the write has not come back as an event by then, it is tried again.
            next = Some(next.map_or(again, |next| next.min(again)));
            match self.write(name, namespace.published.is_some(), roots).await {
                Ok(()) => {
                    self.metrics.root_configmap("written");
                    tracing::info!(
                        namespace = name,
                        configmap = self.target.name,
                        "root bundle published"
                    );
                    namespace.published = Some(Some(roots.to_owned()));
                }
                Err(e) => {
                    self.metrics.root_configmap("failed");
                    tracing::warn!(
                        namespace = name, configmap = self.target.name, error = %e,
                        "cannot publish the root bundle; trying again"
                    );
                }
            }
        }
        next
    }

    async fn write(&self, namespace: &str, exists: bool, roots: &str) -> Result<(), kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let name = &self.target.name;
        if exists {
            // What else is in it stays.
            let patch = Patch::Merge(json!({ "data": { material::ROOT: roots } }));
            api.patch(name, &PatchParams::default(), &patch).await?;
            return Ok(());
        }
        let labels = [("app.kubernetes.io/managed-by".to_owned(), "weft".to_owned())];
        let created = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            data: Some([(material::ROOT.to_owned(), roots.to_owned())].into()),
            ..ConfigMap::default()
        };
        api.create(&PostParams::default(), &created).await?;
        Ok(())
    }

    fn namespaces(&self) -> BoxStream<'static, Event> {
        let target = self.target.clone();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let enrolled = move |namespace: &Namespace| {
            // One that is being deleted takes no new objects.
            let leaving = namespace.meta().deletion_timestamp.is_some();
            let labelled = namespace.labels().get(&target.label) == Some(&target.value);
            !leaving && (labelled || target.always.contains(&namespace.name_any()))
        };
        watched(api, watcher::Config::default(), "namespaces")
            .map(move |event| match event {
                watcher::Event::Init => Event::Namespaces,
                watcher::Event::InitDone => Event::Listed(Listing::Namespaces),
                watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace) => {
                    Event::Namespace(namespace.name_any(), enrolled(&namespace))
                }
                watcher::Event::Delete(namespace) => Event::Namespace(namespace.name_any(), false),
            })
            .boxed()
    }

    fn config_maps(&self) -> BoxStream<'static, Event> {
        let api: Api<ConfigMap> = Api::all(self.client.clone());
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.target.name));
        let place = |map: &ConfigMap| map.namespace().unwrap_or_default();
        let content = |map: &ConfigMap| map.data.as_ref()?.get(material::ROOT).cloned();
        watched(api, config, "root ConfigMaps")
            .map(move |event| match event {
                watcher::Event::Init => Event::ConfigMaps,
                watcher::Event::InitDone => Event::Listed(Listing::ConfigMaps),
                watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
                    Event::ConfigMap(place(&map), Some(content(&map)))
                }
                watcher::Event::Delete(map) => Event::ConfigMap(place(&map), None),
            })
            .boxed()
    }
}

fn learn(known: &mut Known, event: Event) {
    match event {
        Event::Namespace(name, enrolled) => known.entry(name).or_default().enrolled = enrolled,
        Event::Namespaces => known.values_mut().for_each(|n| n.enrolled = false),
        Event::ConfigMap(namespace, published) => {
            known.entry(namespace).or_default().published = published;
        }
        Event::ConfigMaps => known.values_mut().for_each(|n| n.published = None),
        Event::Listed(_) => {}
    }
    known.retain(|_, n| n.enrolled || n.published.is_some());
}

/// Events of a watch that starts over, with growing pauses, when it fails.
fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config)
        .default_backoff()
        .filter_map(move |event| async move {
            event
                .inspect_err(
                    |e| tracing::warn!(error = %e, "the watch of {what} failed; it starts over"),
                )
                .ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many repairs there are in an hour if somebody undoes each one so long after it.
    fn repairs(undone_after: Duration) -> usize {
        let start = Instant::now();
        let (mut now, mut last, mut count) = (start, None, 0);
        while now < start + Duration::from_secs(3600) {
            match Written::next(last, now) {
                Ok(written) => {
                    count += 1;
                    last = Some(written);
                    now += undone_after;
                }
                Err(at) => now = at,
            }
        }
        count
    }

    #[test]
    fn two_who_want_different_things_do_not_fight_without_end() {
        // Pauses of 1, 2, 4, ... and then 60 seconds.
        assert_eq!(repairs(Duration::ZERO), 65);
        assert!(repairs(Duration::from_millis(10)) <= 65);
        let rare = Duration::from_secs(300);
        assert_eq!(
            repairs(rare),
            12,
            "what is undone now and then is repaired at once"
        );
    }
}
