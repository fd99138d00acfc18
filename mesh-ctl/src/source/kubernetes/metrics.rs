//! What the watches count.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabel {
    kind: &'static str,
    reason: &'static str,
}

/// The numbers of the Kubernetes source; clones share them.
#[derive(Clone, Default)]
pub struct WatchMetrics {
    restarts: Family<RestartLabel, Counter>,
    lists: Family<KindLabel, Counter>,
    objects: Family<KindLabel, Gauge>,
    invalid: Family<KindLabel, Gauge>,
    heard: Family<KindLabel, Gauge>,
}

impl WatchMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watch_restarts",
            "Watches that ended, by kind and reason",
            self.restarts.clone(),
        );
        registry.register(
            "watch_lists",
            "Complete lists read, by kind",
            self.lists.clone(),
        );
        registry.register(
            "watched_objects",
            "Objects that the API server has, by kind",
            self.objects.clone(),
        );
        registry.register(
            "invalid_objects",
            "Objects that are not used as they are, because they are invalid, by kind",
            self.invalid.clone(),
        );
        registry.register(
            "watch_last_sync_timestamp_seconds",
            "When the API server last said how a kind is, in seconds since 1970",
            self.heard.clone(),
        );
    }

    pub(super) fn restarted(&self, kind: &'static str, reason: &'static str) {
        let label = RestartLabel { kind, reason };
        self.restarts.get_or_create(&label).inc();
    }

    pub(super) fn listed(&self, kind: &'static str) {
        self.lists.get_or_create(&KindLabel { kind }).inc();
    }

    pub(super) fn heard(&self, kind: &'static str, objects: usize, invalid: usize) {
        let label = KindLabel { kind };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.objects.get_or_create(&label).set(number(objects));
        self.invalid.get_or_create(&label).set(number(invalid));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.heard.get_or_create(&label).set(now);
    }
}
