//! What the controller counts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::ca::Signer;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ResourceLabel {
    r#type: &'static str,
    node: String,
    resource: String,
}

/// Refusals of more resources than this are counted together, as of `other` ones.
const NAMED: usize = 1000;
/// From 100 µs to 52 s.
const LATENCIES: (f64, f64, u16) = (0.0001, 2.0, 20);

struct Inner {
    registry: Registry,
    nodes: Gauge,
    pushes: Family<TypeLabel, Counter>,
    nacks: Family<TypeLabel, Counter>,
    dropped: Family<OutcomeLabel, Counter>,
    resources: Family<TypeLabel, Gauge>,
    certificates: Family<CertificateLabels, Counter>,
    ca_loads: Family<OutcomeLabel, Counter>,
    ca_expiry: Gauge,
    ca_roots: Gauge,
    root_configmaps: Family<OutcomeLabel, Counter>,
    refused: Family<OutcomeLabel, Counter>,
    handshakes: Family<OutcomeLabel, Counter>,
    reads: Family<OutcomeLabel, Counter>,
    refused_resources: Family<ResourceLabel, Counter>,
    named: Mutex<BTreeSet<ResourceLabel>>,
    sent_bytes: Counter,
    push_latency: Histogram,
    compile_time: Histogram,
    watches: WatchMetrics,
}

/// The controller's metrics; clones share the numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl Default for Metrics {
    fn default() -> Self {
        let latencies = || {
            let (first, factor, count) = LATENCIES;
            Histogram::new(exponential_buckets(first, factor, count))
        };
        let mut inner = Inner {
            registry: Registry::default(),
            nodes: Gauge::default(),
            pushes: Family::default(),
            nacks: Family::default(),
            dropped: Family::default(),
            resources: Family::default(),
            certificates: Family::default(),
            ca_loads: Family::default(),
            ca_expiry: Gauge::default(),
            ca_roots: Gauge::default(),
            root_configmaps: Family::default(),
            refused: Family::default(),
            handshakes: Family::default(),
            reads: Family::default(),
            refused_resources: Family::default(),
            named: Mutex::default(),
            sent_bytes: Counter::default(),
            push_latency: latencies(),
            compile_time: latencies(),
            watches: WatchMetrics::default(),
        };
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
            "Certificate requests, by outcome (issued, refused, failed) and reason",
            inner.certificates.clone(),
        );
        registry.register(
            "ca_loads",
            "Reads of a changed certificate authority, by outcome",
            inner.ca_loads.clone(),
        );
        registry.register_with_unit(
            "ca_expiry",
            "When the signer's certificate ends, in Unix time",
            Unit::Seconds,
            inner.ca_expiry.clone(),
        );
        registry.register(
            "ca_roots",
            "Roots in the trust bundle; more than one while a root is rotated",
            inner.ca_roots.clone(),
        );
        registry.register(
            "root_configmaps",
            "Writes of the ConfigMap with the root bundle, by outcome",
            inner.root_configmaps.clone(),
        );
        registry.register(
            "refused_streams",
            "Discovery streams refused, by reason",
            inner.refused.clone(),
        );
        registry.register(
            "failed_handshakes",
            "TLS handshakes that did not complete, by outcome (error, timeout)",
            inner.handshakes.clone(),
        );
        registry.register(
            "directory_reads",
            "Reads of the configuration directory, by outcome",
            inner.reads.clone(),
        );
        registry.register(
            "refused_resources",
            "Resources refused by a node, by node and name",
            inner.refused_resources.clone(),
        );
        registry.register(
            "sent_bytes",
            "Bytes of discovery responses handed to connections",
            inner.sent_bytes.clone(),
        );
        registry.register(
            "push_latency_seconds",
            "From a change to its last byte for a node being handed to the connection",
            inner.push_latency.clone(),
        );
        registry.register(
            "compile_seconds",
            "From a change to a new state of the mesh",
            inner.compile_time.clone(),
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

    /// A response was refused because of that resource.
    pub fn refused_resource(&self, kind: Kind, node: &str, name: &str) {
        let mut label = ResourceLabel {
            r#type: kind.label(),
            node: node.to_owned(),
            resource: name.to_owned(),
        };
        let mut named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        if !named.contains(&label) {
            if named.len() < NAMED {
                named.insert(label.clone());
            } else {
                label.node = "other".into();
                label.resource = "other".into();
            }
        }
        self.0.refused_resources.get_or_create(&label).inc();
    }

    /// A piece of a response was handed to a connection.
    pub fn sent(&self, bytes: usize) {
        self.0.sent_bytes.inc_by(bytes as u64);
    }

    /// Bytes of responses that were handed to connections so far.
    pub(crate) fn sent_so_far(&self) -> u64 {
        self.0.sent_bytes.get()
    }

    /// The last piece was, so long after the change.
    pub fn push_latency(&self, latency: Duration) {
        self.0.push_latency.observe(latency.as_secs_f64());
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

    /// A TLS handshake did not complete: `error` or `timeout`.
    pub fn failed_handshake(&self, outcome: &'static str) {
        let outcome = OutcomeLabel { outcome };
        self.0.handshakes.get_or_create(&outcome).inc();
    }

    /// A certificate was `issued`, or was `refused` or `failed` for the reason given.
    pub fn certificate(&self, outcome: &'static str, reason: &'static str) {
        self.0
            .certificates
            .get_or_create(&CertificateLabels { outcome, reason })
            .inc();
    }

    /// A changed certificate authority was read; `signer` is in force.
    pub fn ca_loaded(&self, good: bool, signer: &Signer) {
        let outcome = if good { "ok" } else { "invalid" };
        self.0
            .ca_loads
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
        let end = signer.not_after().duration_since(SystemTime::UNIX_EPOCH);
        let end = end.unwrap_or_default().as_secs();
        self.0.ca_expiry.set(i64::try_from(end).unwrap_or(i64::MAX));
        let roots = signer.roots().len();
        self.0
            .ca_roots
            .set(i64::try_from(roots).unwrap_or(i64::MAX));
    }

    /// A ConfigMap with the root bundle was written.
    pub fn root_configmap(&self, outcome: &'static str) {
        self.0
            .root_configmaps
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

    /// The world changed, so long after the objects did.
    pub fn compiled(&self, world: &World, after: Duration) {
        self.0.compile_time.observe(after.as_secs_f64());
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
