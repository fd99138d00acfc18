//! The answer: what becomes of each connection that the question is about.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::judge::{self, Judged, Route, judge};
use super::source::{Client, clients};
use super::target::{Server, target};
use super::{Question, QuestionError, notes};
use crate::identity::SpiffeId;
use crate::policy::Explanation;
use crate::snapshot::Snapshot;

/// Whether connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of them.
    Allowed,
    /// None of them.
    Denied,
    /// Some of them.
    Mixed,
}

/// What becomes of the connections that a question is about.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// Whether the connections are made.
    pub outcome: Outcome,
    /// What is to know besides: who is not enrolled, what is not enforced, what was assumed.
    pub notes: Vec<Note>,
    /// Connections with equal results, denied ones first.
    pub cases: Vec<Case>,
    /// Where each policy that applies was read from, if from a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, String>,
}

/// Something to know besides the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Note {
    /// A name that stays.
    pub code: String,
    /// What it is.
    pub text: String,
}

/// Connections with equal results.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Case {
    /// Whether they are made.
    pub allowed: bool,
    /// What the mesh does with them.
    pub route: Route,
    /// Why nothing is enforced, or why they are refused before policy.
    pub because: Option<String>,
    /// What the clients prove; where nothing is enforced, what they would prove.
    pub principal: Option<SpiffeId>,
    /// The clients.
    pub clients: Vec<Place>,
    /// The servers.
    pub servers: Vec<Place>,
    /// What policy says of the first of them, or would say if it were enforced.
    pub explanation: Option<Explanation>,
}

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Place {
    /// `NAMESPACE/POD`, or the address.
    pub name: String,
    /// The address that policies see; with the application's port for a server.
    pub address: String,
    /// Whether the mesh captures its connections.
    pub enrolled: bool,
}

/// Answers a question.
///
/// # Errors
/// [`QuestionError`] when a name is unknown or means two things, or the service has no such port.
pub fn answer(snapshot: &Snapshot, question: &Question) -> Result<Answer, QuestionError> {
    let clients = clients(snapshot, &question.from)?;
    let target = target(snapshot, &question.to, question.port)?;
    let mut cases: Vec<(Judged, Case)> = Vec::new();
    for client in &clients {
        for server in &target.servers {
            let judged = judge(snapshot, client, &target, server);
            match cases.iter_mut().find(|(other, _)| *other == judged) {
                Some((_, case)) => case.add(client, server),
                None => {
                    let case = Case::new(snapshot, client, server, &judged);
                    cases.push((judged, case));
                }
            }
        }
    }
    let notes = notes::notes(
        &clients,
        &target,
        question,
        cases.iter().map(|(_, case)| case),
    );
    let mut cases: Vec<_> = cases.into_iter().map(|(_, case)| case).collect();
    cases.sort_by_key(|case| case.allowed);
    Ok(Answer {
        question: question.clone(),
        outcome: outcome(&cases),
        notes,
        cases,
        origins: BTreeMap::new(),
    })
}

/// A service without endpoints takes no connection.
fn outcome(cases: &[Case]) -> Outcome {
    let allowed = cases.iter().filter(|case| case.allowed).count();
    match allowed {
        0 => Outcome::Denied,
        n if n == cases.len() => Outcome::Allowed,
        _ => Outcome::Mixed,
    }
}

impl Answer {
    /// The policies that apply to any of the servers, by name.
    #[must_use]
    pub fn policies(&self) -> Vec<&str> {
        let explained = self
            .cases
            .iter()
            .filter_map(|case| case.explanation.as_ref());
        let traces = explained.flat_map(|explanation| &explanation.policies);
        let mut names: Vec<_> = traces.map(|trace| &*trace.policy).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Case {
    fn new(snapshot: &Snapshot, client: &Client, server: &Server, judged: &Judged) -> Self {
        let mut case = Self {
            allowed: judged.is_allowed(),
            route: judged.route,
            because: judged.because.map(str::to_owned),
            principal: judge::proven(judged.route, client),
            clients: Vec::new(),
            servers: Vec::new(),
            explanation: judge::explained(snapshot, client, server, judged.route),
        };
        case.add(client, server);
        case
    }

    fn add(&mut self, client: &Client, server: &Server) {
        let from = Place {
            name: client.name(),
            address: client.address_towards(server.address.ip()).to_string(),
            enrolled: client.is_enrolled(),
        };
        let to = Place {
            name: server.name(),
            address: server.address.to_string(),
            enrolled: server.is_enrolled(),
        };
        for (places, place) in [(&mut self.clients, from), (&mut self.servers, to)] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
}
