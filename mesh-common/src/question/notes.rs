//! What the mesh does besides deciding, in sentences.

use std::net::IpAddr;
use std::sync::Arc;

use super::Question;
use super::answer::{Case, Note};
use super::judge::Route;
use super::source::Client;
use super::target::{Target, TargetKind};
use crate::workload::Workload;

/// More names than this are counted, not listed.
const MOST_NAMES: usize = 5;

pub(super) fn notes(
    clients: &[Client],
    target: &Target,
    question: &Question,
    cases: &[Case],
) -> Vec<Note> {
    let mut notes = Notes(Vec::new());
    let on = |route: Route| cases.iter().filter(move |case| case.route == route);
    for case in on(Route::NotEnforced) {
        let because = case.because.as_deref().unwrap_or_default();
        let names = list(case.servers.iter().map(|place| place.name.clone()));
        notes.add(
            "not-enforced",
            format!("no policy is enforced on these connections to {names}: {because}"),
        );
    }
    for case in on(Route::Refused) {
        let because = case.because.as_deref().unwrap_or_default();
        let names = list(case.servers.iter().map(|place| place.name.clone()));
        notes.add(
            "refused",
            format!("connections to {names} are refused before policy: {because}"),
        );
    }
    of_clients(clients, question, &mut notes);
    of_service(target, question, &mut notes);
    of_pods(target, &mut notes);
    notes.0
}

fn of_clients(clients: &[Client], question: &Question, notes: &mut Notes) {
    let plain = clients.iter().filter(|client| !client.is_enrolled());
    let pods = list(
        plain
            .clone()
            .filter(|c| c.workload.is_some())
            .map(Client::name),
    );
    if !pods.is_empty() {
        notes.add(
            "source-not-enrolled",
            format!(
                "{pods}: not enrolled, so connections are in the clear and prove no identity; no rule \
                 that asks for a principal, a namespace or a service account matches them"
            ),
        );
    }
    let outside = list(plain.filter(|c| c.workload.is_none()).map(Client::name));
    if !outside.is_empty() {
        notes.add(
            "source-outside",
            format!("{outside}: no pod of the mesh, so connections are in the clear and prove no identity"),
        );
    }
    let by_address = question.from.trim_start_matches("ip:").parse::<IpAddr>();
    if let (Ok(ip), [client]) = (by_address, clients)
        && client.workload.is_some()
    {
        notes.add("source-is-pod", format!("{ip} is pod {}", client.name()));
    }
}

fn of_service(target: &Target, question: &Question, notes: &mut Notes) {
    let TargetKind::Service(service) = &target.kind else {
        return;
    };
    let name = format!("{}/{}", service.namespace, service.name);
    if service.vips.is_empty() {
        let port = question.port;
        notes.add(
            "headless",
            format!(
                "service {name} has no virtual address: clients dial its pods themselves, at port {port} \
                 of the pod"
            ),
        );
    }
    let without = list(target.without_port.iter().cloned());
    if !without.is_empty() {
        notes.add(
            "endpoint-without-port",
            format!(
                "service {name} leads to no port of {without} for {}: the name of its target port is \
                 unknown there",
                question.port
            ),
        );
    }
    let ready = |w: &&Arc<Workload>| w.healthy || service.load_balancing.allow_unhealthy;
    let idle = target.pods().filter(|w| !ready(w));
    let idle = list(idle.map(|w| format!("{}/{}", w.namespace, w.name)));
    match (target.servers.is_empty(), target.pods().any(|w| ready(&w))) {
        (true, _) => notes.add(
            "no-endpoint",
            format!("service {name} has no endpoint for port {}: connections fail", question.port),
        ),
        (false, false) => notes.add(
            "no-ready-endpoint",
            format!(
                "no endpoint of service {name} is ready: until one is, connections fail, whatever policy says"
            ),
        ),
        (false, true) if !idle.is_empty() => notes.add(
            "endpoint-not-ready",
            format!("{idle}: not ready, so service {name} does not lead there now"),
        ),
        (false, true) => {}
    }
}

fn of_pods(target: &Target, notes: &mut Notes) {
    if let TargetKind::Pod(workload) = &target.kind
        && target.servers.is_empty()
    {
        let name = format!("{}/{}", workload.namespace, workload.name);
        notes.add(
            "no-address",
            format!("{name} has no address that connections could go to"),
        );
    }
}

struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, code: &str, text: String) {
        let note = Note {
            code: code.to_owned(),
            text,
        };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.collect();
    names.dedup();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}
