//! Prometheus metrics, under the names and labels of Istio's TCP metrics so that dashboards carry over.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::decisions::Decisions;
use super::refused::Refused;
use super::{Parties, Party};

/// A label value that reads `unknown` when there is none, as the field's dashboards expect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Known(Option<Arc<str>>);

impl EncodeLabelValue for Known {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(
            self.0
                .as_deref()
                .filter(|s| !s.is_empty())
                .unwrap_or("unknown"),
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TcpLabels {
    reporter: &'static str,
    source_workload: Known,
    source_canonical_service: Known,
    source_canonical_revision: Known,
    source_workload_namespace: Known,
    source_principal: Known,
    source_app: Known,
    source_version: Known,
    source_cluster: Known,
    destination_service: Known,
    destination_service_namespace: Known,
    destination_service_name: Known,
    destination_workload: Known,
    destination_canonical_service: Known,
    destination_canonical_revision: Known,
    destination_workload_namespace: Known,
    destination_principal: Known,
    destination_app: Known,
    destination_version: Known,
    destination_cluster: Known,
    request_protocol: &'static str,
    response_flags: &'static str,
    connection_security_policy: &'static str,
}

impl TcpLabels {
    pub(super) fn new(parties: &Parties, flags: &'static str) -> Self {
        let known = |s: &Arc<str>| Known(Some(s.clone()));
        let of = |party: &Party, field: fn(&mesh_common::workload::Workload) -> &Arc<str>| {
            Known(party.workload.as_deref().map(|w| field(w).clone()))
        };
        let principal =
            |party: &Party| Known(party.identity.as_ref().map(|id| id.to_string().into()));
        let namespace = |party: &Party| match (&party.workload, &party.identity) {
            (Some(w), _) => known(&w.namespace),
            (None, Some(id)) => Known(Some(id.namespace().into())),
            (None, None) => Known(None),
        };
        let (src, dst) = (&parties.source, &parties.destination);
        let service = parties.service.as_deref();
        Self {
            reporter: parties.reporter.label(),
            source_workload: of(src, |w| &w.workload_name),
            source_canonical_service: of(src, |w| &w.canonical_name),
            source_canonical_revision: of(src, |w| &w.canonical_revision),
            source_workload_namespace: namespace(src),
            source_principal: principal(src),
            source_app: of(src, |w| &w.canonical_name),
            source_version: of(src, |w| &w.canonical_revision),
            source_cluster: of(src, |w| &w.cluster_id),
            destination_service: Known(service.map(|s| s.hostname.clone())),
            destination_service_namespace: Known(service.map(|s| s.namespace.clone())),
            destination_service_name: Known(service.map(|s| s.name.clone())),
            destination_workload: of(dst, |w| &w.workload_name),
            destination_canonical_service: of(dst, |w| &w.canonical_name),
            destination_canonical_revision: of(dst, |w| &w.canonical_revision),
            destination_workload_namespace: namespace(dst),
            destination_principal: principal(dst),
            destination_app: of(dst, |w| &w.canonical_name),
            destination_version: of(dst, |w| &w.canonical_revision),
            destination_cluster: of(dst, |w| &w.cluster_id),
            request_protocol: "tcp",
            response_flags: flags,
            connection_security_policy: parties.security.metric_label(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SteeringLabels {
    program: &'static str,
    reason: &'static str,
}

/// Figures about the agent itself, read from their owners at each scrape.
#[derive(Debug, Default)]
pub struct AgentMetrics {
    /// `(program, reason, count)` of the steering programs.
    pub steering: Vec<(&'static str, &'static str, u64)>,
    /// Pods enrolled now.
    pub enrolled_pods: i64,
    /// HBONE tunnels open towards other workloads now.
    pub outbound_tunnels: i64,
    /// Connections that inbound policy watches now.
    pub live_inbound: i64,
    /// Destinations that need no tunnel now.
    pub direct_exemptions: i64,
    /// Connections without a tunnel between pods of this node now.
    pub direct_connections: i64,
    /// Access-log lines dropped since start.
    pub log_lines_dropped: u64,
    /// Whether the controller is connected now.
    pub controller_connected: bool,
    /// Seconds since the controller last sent state; none before the first.
    pub state_age_seconds: Option<i64>,
}

/// All metrics of the agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) opened: Family<TcpLabels, Counter>,
    pub(super) closed: Family<TcpLabels, Counter>,
    pub(super) failed: Family<TcpLabels, Counter>,
    pub(super) received: Family<TcpLabels, Counter>,
    pub(super) sent: Family<TcpLabels, Counter>,
    pub(super) decisions: Decisions,
    pub(super) refused: Refused,
    agent: Mutex<AgentGauges>,
}

#[derive(Debug, Default)]
struct AgentGauges {
    steering: Family<SteeringLabels, Gauge>,
    pods: Gauge,
    tunnels: Gauge,
    live: Gauge,
    exemptions: Gauge,
    direct: Gauge,
    dropped: Gauge,
    connected: Gauge,
    age: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set of metrics, all zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let tcp = registry.sub_registry_with_prefix("istio");
        let family = || Family::<TcpLabels, Counter>::default();
        let (opened, closed, failed) = (family(), family(), family());
        let (received, sent) = (family(), family());
        for (name, help, metric) in [
            ("tcp_connections_opened", "TCP connections opened", &opened),
            ("tcp_connections_closed", "TCP connections closed", &closed),
            (
                "tcp_connections_failed",
                "TCP connections refused or not established",
                &failed,
            ),
            (
                "tcp_received_bytes",
                "Bytes received from the client",
                &received,
            ),
            ("tcp_sent_bytes", "Bytes sent to the client", &sent),
        ] {
            tcp.register(name, help, metric.clone());
        }
        let (gauges, decisions) = (AgentGauges::default(), Decisions::default());
        let own = registry.sub_registry_with_prefix("weft");
        own.register(
            "policy_decisions",
            "Decisions about inbound connections, by the policy and the rule that made them",
            decisions.family(),
        );
        own.register(
            "steering_decisions",
            "Decisions of the eBPF programs since they were pinned, by reason",
            gauges.steering.clone(),
        );
        let refused = Refused::default();
        own.register(
            "steering_refused",
            "Plaintext connections that the eBPF programs refused because no policy could allow them",
            refused.clone(),
        );
        own.register(
            "enrolled_pods",
            "Pods enrolled on this node",
            gauges.pods.clone(),
        );
        own.register(
            "outbound_tunnels",
            "Open HBONE tunnels to peers",
            gauges.tunnels.clone(),
        );
        own.register(
            "live_inbound_connections",
            "Inbound connections now",
            gauges.live.clone(),
        );
        own.register(
            "same_node_exemptions",
            "Destinations on this node that pods may reach without a tunnel",
            gauges.exemptions.clone(),
        );
        own.register(
            "same_node_connections",
            "Connections without a tunnel between pods of this node",
            gauges.direct.clone(),
        );
        own.register(
            "access_log_lines_dropped",
            "Access-log lines lost to a slow disk",
            gauges.dropped.clone(),
        );
        own.register(
            "controller_connected",
            "1 while discovery is up",
            gauges.connected.clone(),
        );
        own.register_with_unit(
            "state_age",
            "Time since the controller last sent state; -1 before the first",
            Unit::Seconds,
            gauges.age.clone(),
        );
        Self {
            registry,
            opened,
            closed,
            failed,
            received,
            sent,
            decisions,
            refused,
            agent: Mutex::new(gauges),
        }
    }

    /// Ends the series of policies that are gone: of which `is_known` says no.
    pub fn retain_policies(&self, is_known: impl Fn(&str) -> bool) {
        self.decisions.retain(is_known);
    }

    /// The exposition text (OpenMetrics 1.0) with the agent's own figures as given.
    ///
    /// # Errors
    /// Only when the encoder fails, which is a defect.
    pub fn encode(&self, agent: &AgentMetrics) -> Result<String, std::fmt::Error> {
        {
            let gauges = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
            for &(program, reason, count) in &agent.steering {
                gauges
                    .steering
                    .get_or_create(&SteeringLabels { program, reason })
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            gauges.pods.set(agent.enrolled_pods);
            gauges.tunnels.set(agent.outbound_tunnels);
            gauges.live.set(agent.live_inbound);
            gauges.exemptions.set(agent.direct_exemptions);
            gauges.direct.set(agent.direct_connections);
            gauges
                .dropped
                .set(i64::try_from(agent.log_lines_dropped).unwrap_or(i64::MAX));
            gauges.connected.set(i64::from(agent.controller_connected));
            gauges.age.set(agent.state_age_seconds.unwrap_or(-1));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
