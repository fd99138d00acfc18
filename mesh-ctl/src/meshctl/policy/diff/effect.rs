//! What becomes of a connection, before and after.

use std::collections::HashSet;
use std::sync::Arc;

use mesh_common::policy::{NearMiss, Policy, Reason};
use mesh_common::question::{Client, Route, Server, Target, judge, nearest_rule};
use mesh_common::snapshot::Snapshot;
use serde::Serialize;

/// With more pairs than this, those that no policy tells apart are judged once.
const FEW: usize = 64;

/// What becomes of some of the connections of a flow. The rule is left out: its number changes when a rule
/// comes before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Effect {
    pub(super) allowed: bool,
    pub(super) route: Route,
    pub(super) policy: Option<Arc<str>>,
    pub(super) reason: Option<Reason>,
    pub(super) because: Option<&'static str>,
}

/// What becomes of a flow.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Each effect once; empty when there is nobody to connect, or nothing to connect to.
    pub(super) effects: Vec<Effect>,
    /// For the first that no rule allows: the rule that came nearest.
    pub(super) nearest: Option<NearMiss>,
    /// Why there is no effect.
    pub(super) gone: Option<String>,
}

impl State {
    pub(super) fn gone(why: impl Into<String>) -> Self {
        Self {
            gone: Some(why.into()),
            ..Self::default()
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let within = |a: &Self, b: &Self| a.effects.iter().all(|effect| b.effects.contains(effect));
        let gone = self.gone.is_some() == other.gone.is_some();
        gone && within(self, other) && within(other, self)
    }
}

/// The two states of the mesh.
pub(super) struct Judge<'a> {
    pub(super) old: Side<'a>,
    pub(super) new: Side<'a>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(old: &'a Snapshot, new: &'a Snapshot) -> Self {
        Self {
            old: Side::of(old),
            new: Side::of(new),
        }
    }
}

/// One state of the mesh.
pub(super) struct Side<'a> {
    pub(super) snapshot: &'a Snapshot,
    by_source: bool,
    by_destination: bool,
}

impl<'a> Side<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let asks = |asks: fn(&Policy) -> bool| snapshot.policies().any(|policy| asks(policy));
        Self {
            snapshot,
            by_source: asks(|policy| {
                let mut matches = matches(policy);
                matches.any(|m| !m.source_ips.is_empty() || !m.not_source_ips.is_empty())
            }),
            by_destination: asks(|policy| {
                let mut matches = matches(policy);
                matches.any(|m| !m.destination_ips.is_empty() || !m.not_destination_ips.is_empty())
            }),
        }
    }

    /// What becomes of every client's connection to every server.
    pub(super) fn state(&self, clients: &[Client], target: &Target) -> State {
        let mut state = State::default();
        let few = clients.len() * target.servers.len() <= FEW;
        // A pod's connections to itself say nothing of the others of its service account.
        let skips_itself = clients.len() > 1 && target.balanced().is_none();
        let only_itself = |client: &Client| match target.servers.as_slice() {
            [server] => skips_itself && same(client, server),
            _ => false,
        };
        let mut seen = HashSet::new();
        let told_apart = |client: &&Client| {
            let address = self.by_source.then(|| client.name());
            let node = client.workload.as_ref().map(|w| w.node.clone());
            let place = target.balanced().is_some().then_some(node);
            few || seen.insert((client.identity(), client.on_node.clone(), address, place))
        };
        let clients = clients.iter().filter(|client| !only_itself(client));
        let clients: Vec<_> = clients.filter(told_apart).collect();
        let mut seen = HashSet::new();
        let told_apart = |server: &&Server| {
            let Some(workload) = &server.workload else {
                return true;
            };
            let address = self.by_destination.then_some(server.address.ip());
            let policies = (workload.namespace.clone(), workload.policies.clone());
            let mesh = (
                server.is_enrolled(),
                workload.host_network,
                workload.waypoint,
            );
            let place = (server.address.port(), workload.node.clone(), address);
            few || seen.insert((policies, mesh, place))
        };
        let servers: Vec<_> = target.servers.iter().filter(told_apart).collect();
        let mut known: HashSet<Effect> = HashSet::new();
        for client in &clients {
            for server in &servers {
                if skips_itself && same(client, server) {
                    continue;
                }
                let judged = judge(self.snapshot, client, target, server);
                let verdict = judged.verdict.as_ref();
                let enforced = verdict.filter(|_| judged.because.is_none());
                let effect = Effect {
                    allowed: judged.is_allowed(),
                    route: judged.route,
                    policy: enforced.and_then(|verdict| verdict.policy.clone()),
                    reason: enforced.map(|verdict| verdict.reason),
                    because: judged.because,
                };
                if !known.insert(effect.clone()) {
                    continue;
                }
                let closed = effect.reason == Some(Reason::NoAllowMatched);
                if closed && state.nearest.is_none() {
                    state.nearest = nearest_rule(self.snapshot, client, server, judged.route);
                }
                state.effects.push(effect);
            }
        }
        if state.effects.is_empty() {
            state.gone = Some("there is no endpoint".into());
        }
        state
    }
}

fn matches(policy: &Policy) -> impl Iterator<Item = &mesh_common::policy::Match> {
    let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
    clauses.flat_map(|clause| &clause.matches)
}

fn same(client: &Client, server: &Server) -> bool {
    let uids = client.workload.as_ref().zip(server.workload.as_ref());
    uids.is_some_and(|(a, b)| a.uid == b.uid)
}
