//! The line of the access log: one JSON object for a connection that ended.

use mesh_common::admin::Direction;
use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Hit, Reports, Verdict};
use serde::Serialize;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Outcome, Parties, Party, Reporter};
use crate::hbone::TraceParent;

/// All that a line is made of.
pub(super) struct Said<'a> {
    pub(super) parties: &'a Parties,
    /// Bytes from the client, and bytes to it.
    pub(super) carried: (u64, u64),
    pub(super) lasted: Duration,
    pub(super) verdict: Option<&'a Verdict>,
    pub(super) reports: Option<&'a Reports>,
    pub(super) trace: Option<&'a TraceParent>,
    pub(super) outcome: &'a Outcome,
}

/// The line, without its end of line.
pub(super) fn line(said: &Said<'_>) -> serde_json::Result<String> {
    let parties = said.parties;
    let (source, destination) = (&parties.source, &parties.destination);
    let (from_client, to_client) = said.carried;
    // The log speaks for the workload on this node, the metrics for the connection.
    let (bytes_sent, bytes_recv) = match parties.reporter {
        Reporter::Source => (from_client, to_client),
        Reporter::Destination => (to_client, from_client),
    };
    let audit = said.reports.map(|reports| &*reports.audit);
    let dry_run = said.reports.and_then(|reports| reports.dry_run.as_ref());
    let timestamp = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339);
    serde_json::to_string(&Line {
        timestamp: timestamp.unwrap_or_default(),
        direction: parties.reporter.direction(),
        src_addr: source.address,
        src_workload: name(source),
        src_namespace: namespace(source),
        src_identity: source.identity.as_ref(),
        dst_addr: destination.address,
        dst_hbone_addr: parties.hbone_address,
        dst_service: parties.service.as_ref().map(|service| &*service.hostname),
        dst_workload: name(destination),
        dst_namespace: namespace(destination),
        dst_identity: destination.identity.as_ref(),
        bytes_sent,
        bytes_recv,
        duration_ms: u64::try_from(said.lasted.as_millis()).unwrap_or(u64::MAX),
        connection_security_policy: parties.security.label(),
        verdict: said.verdict.map(label),
        policy: said.verdict.and_then(|verdict| verdict.policy.as_deref()),
        rule: said.verdict.and_then(|verdict| verdict.rule),
        reason: said.verdict.map(|verdict| verdict.reason.to_string()),
        audit: audit.filter(|hits| !hits.is_empty()),
        dry_run: dry_run.map(DryRun::of),
        response_flags: said.outcome.flag.label(),
        error: said.outcome.error.as_deref(),
        traceparent: said.trace.map(ToString::to_string),
    })
}

fn name(party: &Party) -> Option<&str> {
    party.workload.as_ref().map(|workload| &*workload.name)
}

fn namespace(party: &Party) -> Option<&str> {
    party.workload.as_ref().map(|workload| &*workload.namespace)
}

fn label(verdict: &Verdict) -> &'static str {
    if verdict.is_allow() { "allow" } else { "deny" }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    direction: Direction,
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
