//! The record of one connection, from its first decision to its last byte.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Hit, Reports, Verdict};
use mesh_common::workload::{Service, Workload};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Observer;
use super::series::{Series, series};
use crate::hbone::TraceParent;

/// Which end reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The agent of the client.
    Source,
    /// The agent of the server.
    Destination,
}

impl Reporter {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    fn direction(self) -> &'static str {
        match self {
            Self::Source => "outbound",
            Self::Destination => "inbound",
        }
    }
}

/// Whether the connection ran inside mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// An HBONE tunnel whose both ends proved their identities.
    MutualTls,
    /// In the clear, between two pods of this node whose identities the node itself knows.
    Direct,
    /// In the clear.
    None,
}

impl Security {
    pub(super) fn metric_label(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Direct => "none",
            Self::None => "unknown",
        }
    }

    fn log_label(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Direct => "direct",
            Self::None => "none",
        }
    }
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug)]
pub struct Party {
    /// The application's address at this end.
    pub address: SocketAddr,
    /// The workload there, when the controller named one.
    pub workload: Option<Arc<Workload>>,
    /// The identity proven by TLS, or, for the agent's own pod, the one it holds.
    pub identity: Option<SpiffeId>,
}

impl Party {
    /// An end of which only the address is known.
    #[must_use]
    pub fn unknown(address: SocketAddr) -> Self {
        Self {
            address,
            workload: None,
            identity: None,
        }
    }
}

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Parties {
    /// The reporting end.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server.
    pub destination: Party,
    /// Where the tunnel goes, when there is one.
    pub hbone_address: Option<SocketAddr>,
    /// The service that was dialled, when there was one.
    pub service: Option<Arc<Service>>,
    /// How it was protected.
    pub security: Security,
}

/// Why a connection did not end well, in the field's short forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Nothing to flag.
    Ok,
    /// Refused by policy, or closed when policy changed.
    Denied,
    /// The destination or the next hop could not be reached.
    Connect,
    /// TLS with the peer failed.
    Tls,
    /// HTTP/2 with the peer failed, or its request was malformed.
    Http2,
    /// An identity was unknown or could not be had.
    Identity,
}

impl Flag {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "-",
            Self::Denied => "DENY",
            Self::Connect => "CONNECT",
            Self::Tls => "TLS_FAILURE",
            Self::Http2 => "H2_HANDSHAKE_FAILURE",
            Self::Identity => "IDENTITY_ERROR",
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub struct Outcome {
    flag: Flag,
    error: Option<String>,
}

impl Outcome {
    /// It ran to its end.
    #[must_use]
    pub fn completed() -> Self {
        Self {
            flag: Flag::Ok,
            error: None,
        }
    }

    /// It failed, or was refused, for the reason given.
    #[must_use]
    pub fn failed(flag: Flag, error: impl std::fmt::Display) -> Self {
        Self {
            flag,
            error: Some(error.to_string()),
        }
    }
}

/// The byte counts of one connection; the metrics move with them while it lives.
#[derive(Debug)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    sent_metric: Counter,
    received_metric: Counter,
}

impl Traffic {
    /// Counts bytes from the client to the server.
    pub fn from_client(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.received_metric.inc_by(bytes);
    }

    /// Counts bytes from the server to the client.
    pub fn to_client(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.sent_metric.inc_by(bytes);
    }

    /// Bytes from the client and to it.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.received), count(&self.sent))
    }
}

/// One connection's record. Ending it (or dropping it) writes the access-log line.
#[derive(Debug)]
pub struct Record {
    observer: Observer,
    parties: Parties,
    started: Instant,
    lasted: Option<Duration>,
    traffic: Option<Arc<Traffic>>,
    verdict: Option<Verdict>,
    /// Boxed: few connections have any.
    reports: Option<Box<Reports>>,
    trace: Option<TraceParent>,
    outcome: Option<Outcome>,
}

impl Record {
    pub(super) fn new(observer: Observer, parties: Parties) -> Self {
        Self {
            observer,
            parties,
            started: Instant::now(),
            lasted: None,
            traffic: None,
            verdict: None,
            reports: None,
            trace: None,
            outcome: None,
        }
    }

    /// Changes what is known of the parties; only meaningful before [`Record::opened`].
    pub fn parties_mut(&mut self) -> &mut Parties {
        &mut self.parties
    }

    /// Notes what ties this record to that of the other end.
    pub fn traced(&mut self, trace: Option<TraceParent>) {
        self.trace = trace;
    }

    /// Notes what policy said; the last verdict is the one reported.
    pub fn decided(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    /// Notes what policies said that enforce nothing.
    pub fn reported(&mut self, reports: Reports) {
        self.reports = (reports != Reports::default()).then(|| Box::new(reports));
    }

    /// Says how long the connection lasted, where that is known better than by the record's own life.
    pub fn lasted(&mut self, duration: Duration) {
        self.lasted = Some(duration);
    }

    /// The connection is established: counts it as opened and returns its byte counters.
    pub fn opened(&mut self) -> Arc<Traffic> {
        let series = self.series(Flag::Ok);
        series.opened().inc();
        let traffic = Arc::new(Traffic {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent_metric: series.sent().clone(),
            received_metric: series.received().clone(),
        });
        self.traffic = Some(traffic.clone());
        traffic
    }

    fn series(&self, flag: Flag) -> Rc<Series> {
        series(&self.observer.metrics, &self.parties, flag.label())
    }

    /// Ends the record.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self
            .outcome
            .take()
            .unwrap_or_else(|| Outcome::failed(Flag::Ok, "the agent shut the connection down"));
        let series = self.series(outcome.flag);
        if self.traffic.is_some() {
            series.closed().inc();
        } else {
            series.failed().inc();
        }
        let count = |read: fn(&Traffic) -> &AtomicU64| {
            self.traffic
                .as_deref()
                .map_or(0, |t| read(t).load(Ordering::Relaxed))
        };
        // The log speaks for the workload on this node, the metrics for the connection.
        let (bytes_sent, bytes_recv) = match self.parties.reporter {
            Reporter::Source => (count(|t| &t.received), count(|t| &t.sent)),
            Reporter::Destination => (count(|t| &t.sent), count(|t| &t.received)),
        };
        let (source, destination) = (&self.parties.source, &self.parties.destination);
        let lasted = self.lasted.unwrap_or_else(|| self.started.elapsed());
        let line = Line {
            timestamp: OffsetDateTime::from(SystemTime::now())
                .format(&Rfc3339)
                .unwrap_or_default(),
            direction: self.parties.reporter.direction(),
            src_addr: source.address,
            src_workload: source.workload.as_ref().map(|w| &*w.name),
            src_namespace: source.workload.as_ref().map(|w| &*w.namespace),
            src_identity: source.identity.as_ref(),
            dst_addr: destination.address,
            dst_hbone_addr: self.parties.hbone_address,
            dst_service: self.parties.service.as_ref().map(|s| &*s.hostname),
            dst_workload: destination.workload.as_ref().map(|w| &*w.name),
            dst_namespace: destination.workload.as_ref().map(|w| &*w.namespace),
            dst_identity: destination.identity.as_ref(),
            bytes_sent,
            bytes_recv,
            duration_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            connection_security_policy: self.parties.security.log_label(),
            verdict: self.verdict.as_ref().map(label),
            policy: self.verdict.as_ref().and_then(|v| v.policy.as_deref()),
            rule: self.verdict.as_ref().and_then(|v| v.rule),
            reason: self.verdict.as_ref().map(|v| v.reason.to_string()),
            audit: self
                .reports
                .as_deref()
                .map(|r| &*r.audit)
                .filter(|hits| !hits.is_empty()),
            dry_run: self
                .reports
                .as_deref()
                .and_then(|r| r.dry_run.as_ref())
                .map(DryRun::of),
            response_flags: outcome.flag.label(),
            error: outcome.error.as_deref(),
            traceparent: self.trace.as_ref().map(ToString::to_string),
        };
        match serde_json::to_string(&line) {
            Ok(text) => self.observer.log.line(&text),
            Err(e) => tracing::error!("access log: cannot encode a line: {e}"),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    direction: &'static str,
    src_addr: SocketAddr,
    src_workload: Option<&'a str>,
    src_namespace: Option<&'a str>,
    src_identity: Option<&'a SpiffeId>,
    dst_addr: SocketAddr,
    dst_hbone_addr: Option<SocketAddr>,
    dst_service: Option<&'a str>,
    dst_workload: Option<&'a str>,
    dst_namespace: Option<&'a str>,
    dst_identity: Option<&'a SpiffeId>,
    bytes_sent: u64,
    bytes_recv: u64,
    duration_ms: u64,
    connection_security_policy: &'static str,
    verdict: Option<&'static str>,
    policy: Option<&'a str>,
    rule: Option<usize>,
    reason: Option<String>,
    /// The AUDIT policies that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a [Hit]>,
    /// What the verdict were if policies in dry run were enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<DryRun<'a>>,
    response_flags: &'static str,
    error: Option<&'a str>,
    traceparent: Option<String>,
}

#[derive(Serialize)]
struct DryRun<'a> {
    verdict: &'static str,
    policy: Option<&'a str>,
    rule: Option<usize>,
    reason: String,
}

impl<'a> DryRun<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        Self {
            verdict: label(verdict),
            policy: verdict.policy.as_deref(),
            rule: verdict.rule,
            reason: verdict.reason.to_string(),
        }
    }
}

fn label(verdict: &Verdict) -> &'static str {
    if verdict.is_allow() { "allow" } else { "deny" }
}
