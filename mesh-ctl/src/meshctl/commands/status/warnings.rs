//! What is not as it should be, one line each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use mesh_common::admin::{AgentStatus, CertificateStatus};

use super::super::version::CLIENT;
use super::{Agent, Controller};
use crate::meshctl::{expiry, text};

/// Names shown of many; the rest is counted.
const NAMED: usize = 3;

pub(super) fn all(controllers: &[Controller], agents: &[Agent], now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    for controller in controllers {
        if !controller.report.ready {
            let name = &controller.name;
            lines.push(format!(
                "controller {name}: has not read the configuration yet; see its log"
            ));
        }
    }
    for agent in agents {
        of_agent(&agent.status, &mut lines);
    }
    refusals(controllers, &mut lines);
    lines.extend(skew(controllers, agents));
    for agent in agents {
        for certificate in &agent.certificates {
            of_identity(&agent.status.node, certificate, now, &mut lines);
        }
    }
    lines.extend(authorities(agents, now));
    // Controllers compile the same.
    let compiled: BTreeSet<_> = controllers
        .iter()
        .flat_map(|c| &c.report.warnings)
        .collect();
    lines.extend(compiled.into_iter().cloned());
    lines
}

fn of_agent(agent: &AgentStatus, lines: &mut Vec<String>) {
    let node = &agent.node;
    let link = &agent.controller;
    if !agent.ready {
        lines.push(format!("{node}: the agent is not ready; see its log"));
    }
    if link.connected {
        return;
    }
    let url = &link.url;
    let state = match link.state_age_seconds {
        Some(age) => format!("it serves a state that is {} old", text::seconds(age)),
        None => "it has no state, and refuses all connections".to_owned(),
    };
    let why = link.last_error.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    lines.push(format!(
        "{node}: not connected to the controller {url}; {state}{why}"
    ));
}

fn refusals(controllers: &[Controller], lines: &mut Vec<String>) {
    for node in controllers.iter().flat_map(|c| &c.report.nodes) {
        if let Some(refusal) = &node.refusal {
            let refusal = refusal.replace('\n', " ");
            lines.push(format!(
                "{}: refused what the controller sent: {refusal}",
                node.node
            ));
        }
    }
}

/// When not all are of one version.
fn skew(controllers: &[Controller], agents: &[Agent]) -> Option<String> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    versions
        .entry(CLIENT)
        .or_default()
        .push("meshctl".to_owned());
    for Controller { name, report } in controllers {
        let of = versions.entry(&report.version).or_default();
        of.push(format!("controller {name}"));
    }
    for Agent { status, .. } in agents {
        versions
            .entry(&status.version)
            .or_default()
            .push(status.node.clone());
    }
    if versions.len() < 2 {
        return None;
    }
    let parts = versions
        .iter()
        .map(|(version, who)| format!("{version} ({})", some(who)));
    let parts: Vec<_> = parts.collect();
    Some(format!("versions differ: {}", parts.join(", ")))
}

fn of_identity(
    node: &str,
    certificate: &CertificateStatus,
    now: SystemTime,
    lines: &mut Vec<String>,
) {
    let identity = &certificate.identity;
    let why = certificate.last_error.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    if !certificate.valid {
        lines.push(format!("{node}: {identity} has no valid certificate{why}"));
        return;
    }
    let leaf = certificate
        .chain
        .first()
        .filter(|leaf| expiry::is_near(leaf, now));
    if let Some(leaf) = leaf {
        let left = left(&leaf.not_after, now);
        lines.push(format!(
            "{node}: the certificate of {identity} {left} and is not renewed{why}"
        ));
    }
}

/// Roots and intermediates that end soon, once each.
fn authorities(agents: &[Agent], now: SystemTime) -> Vec<String> {
    let chains = agents.iter().flat_map(|agent| &agent.certificates);
    let above = chains.flat_map(|certificate| certificate.chain.iter().skip(1));
    let near = above.filter(|certificate| expiry::is_near(certificate, now));
    let near: BTreeMap<_, _> = near.map(|c| ((&c.role, &c.serial), c)).collect();
    let line = |c: &mesh_common::admin::ChainCertificate| {
        let left = left(&c.not_after, now);
        format!(
            "the {} {} (serial {}) {left}; rotate it",
            c.role, c.name, c.serial
        )
    };
    near.into_values().map(line).collect()
}

fn left(not_after: &str, now: SystemTime) -> String {
    match text::time(not_after).map(|end| end.duration_since(now)) {
        Some(Ok(left)) => format!("ends in {}", text::duration(left)),
        Some(Err(_)) => "has expired".to_owned(),
        None => format!("ends at {not_after}"),
    }
}

fn some(names: &[String]) -> String {
    match names.len() {
        n if n > NAMED => format!("{} and {} more", names[..NAMED].join(", "), n - NAMED),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
