//! What the controller counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::resources::{Kind, World};
use crate::source::WatchMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    nodes: Gauge,
    pushes: Family<TypeLabel, Counter>,
    nacks: Family<TypeLabel, Counter>,
    dropped: Family<OutcomeLabel, Counter>,
    resources: Family<TypeLabel, Gauge>,
    certificates: Family<OutcomeLabel, Counter>,
    refused: Family<OutcomeLabel, Counter>,
    reads: Family<OutcomeLabel, Counter>,
    watches: WatchMetrics,
}

/// The controller's metrics; clones share the numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner::default();
        let mut registry = Registry::with_prefix("weft_controller");
        registry.register(
            "connected_nodes",
            "Discovery streams that are open",
            inner.nodes.clone(),
        );
        registry.register("pushes", "Discovery responses sent", inner.pushes.clone());
        registry.register(
            "nacks",
            "Discovery responses refused by a node",
            inner.nacks.clone(),
        );
        registry.register(
            "dropped_streams",
            "Discovery streams ended by the controller, by reason",
            inner.dropped.clone(),
        );
        registry.register("resources", "Resources compiled", inner.resources.clone());
        registry.register(
            "certificates",
            "Certificate requests, by outcome",
            inner.certificates.clone(),
        );
        registry.register(
            "refused_streams",
            "Discovery streams refused, by reason",
            inner.refused.clone(),
        );
        registry.register(
            "directory_reads",
            "Reads of the configuration directory, by outcome",
            inner.reads.clone(),
        );
        inner.watches.register(&mut registry);
        inner.registry = registry;
        Self(Arc::new(inner))
    }
}

impl Metrics {
    /// A discovery stream opened; it counts until the value is dropped.
    pub fn node_connected(&self) -> Connected {
        self.0.nodes.inc();
        Connected(self.0.nodes.clone())
    }

    /// A response was sent.
    pub fn pushed(&self, kind: Kind) {
        self.0
            .pushes
            .get_or_create(&TypeLabel {
                r#type: kind.label(),
            })
            .inc();
    }

    /// A response was refused.
    pub fn refused_push(&self, kind: Kind) {
        self.0
            .nacks
            .get_or_create(&TypeLabel {
                r#type: kind.label(),
            })
            .inc();
    }

    /// The controller ended a stream.
    pub fn dropped_stream(&self, outcome: &'static str) {
        self.0
            .dropped
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A stream was not accepted.
    pub fn refused_stream(&self, outcome: &'static str) {
        self.0
            .refused
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// A certificate was `issued`, or refused for the reason given.
    pub fn certificate(&self, outcome: &'static str) {
        self.0
            .certificates
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// The directory was read.
    pub fn read(&self, good: bool) {
        let outcome = if good { "ok" } else { "invalid" };
        self.0.reads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Those of the Kubernetes source.
    pub fn watches(&self) -> WatchMetrics {
        self.0.watches.clone()
    }

    /// The world changed.
    pub fn compiled(&self, world: &World) {
        for kind in Kind::ALL {
            let gauge = self.0.resources.get_or_create(&TypeLabel {
                r#type: kind.label(),
            });
            gauge.set(i64::try_from(world.table(kind).len()).unwrap_or(i64::MAX));
        }
    }

    /// In the OpenMetrics text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// One open discovery stream.
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
