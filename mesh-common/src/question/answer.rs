//! The answer: what becomes of each connection that the question is about.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

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
    let mut kinds: Vec<Kind> = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        for (m, server) in target.servers.iter().enumerate() {
            let judged = judge(snapshot, client, &target, server);
            let principal = judge::proven(judged.route, client);
            let alike = |kind: &&mut Kind| kind.judged == judged && kind.principal == principal;
            match kinds.iter_mut().find(alike) {
                Some(kind) => kind.add(n, m),
                None => kinds.push(Kind {
                    judged,
                    principal,
                    clients: [n].into(),
                    servers: [m].into(),
                }),
            }
        }
    }
    let case = |kind: Kind| kind.case(snapshot, &clients, &target.servers);
    let mut cases: Vec<_> = kinds.into_iter().map(case).collect();
    let notes = notes::notes(&clients, &target, question, &cases);
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

/// Connections with equal results: the numbers of clients and servers.
struct Kind {
    judged: Judged,
    principal: Option<SpiffeId>,
    clients: BTreeSet<usize>,
    servers: BTreeSet<usize>,
}

impl Kind {
    fn add(&mut self, client: usize, server: usize) {
        self.clients.insert(client);
        self.servers.insert(server);
    }

    fn case(self, snapshot: &Snapshot, clients: &[Client], servers: &[Server]) -> Case {
        let clients: Vec<_> = self.clients.iter().map(|n| &clients[*n]).collect();
        let servers: Vec<_> = self.servers.iter().map(|n| &servers[*n]).collect();
        let route = self.judged.route;
        // There is one of each: a kind begins with a pair.
        let towards = servers[0].address.ip();
        Case {
            allowed: self.judged.is_allowed(),
            route,
            because: self.judged.because.map(str::to_owned),
            explanation: judge::explained(snapshot, clients[0], servers[0], route),
            principal: self.principal,
            clients: clients
                .iter()
                .map(|c| Place::of_client(c, towards))
                .collect(),
            servers: servers.iter().map(|s| Place::of_server(s)).collect(),
        }
    }
}

impl Place {
    fn of_client(client: &Client, towards: IpAddr) -> Self {
        Self {
            name: client.name(),
            address: client.address_towards(towards).to_string(),
            enrolled: client.is_enrolled(),
        }
    }

    fn of_server(server: &Server) -> Self {
        Self {
            name: server.name(),
            address: server.address.to_string(),
            enrolled: server.is_enrolled(),
        }
    }
}
