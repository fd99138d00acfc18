//! What denied connections lacked, added to their lines in the access log.
//!
//! To find the rule that came nearest takes milliseconds where there are ten thousand policies. It is done on a
//! thread of its own, for a share of one core at most; of a flood of denials the lines are written without it.

use mesh_common::policy::{Connection, NearMiss, nearest};
use mesh_common::snapshot::Snapshot;
use serde::Serialize;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{AccessLog, Parties};

/// Lines that wait for their explanation; those beyond are written without one.
const QUEUE: usize = 64;
/// After an explanation that took some time, the thread rests for this many times as long.
const REST: u32 = 9;
/// A rest that is shorter is saved up.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// The lines that wait are written within this time when the agent ends.
const LAST_LINES_WITHIN: Duration = Duration::from_millis(500);

/// A line whose connection no ALLOW policy allowed.
#[derive(Debug)]
pub(super) struct Unexplained {
    /// The line, as it is without an explanation.
    pub(super) line: String,
    pub(super) state: Arc<Snapshot>,
    pub(super) parties: Arc<Parties>,
}

/// Handle to the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Explainer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Unexplained>,
    /// One was taken and is not written yet.
    working: bool,
    /// Nothing is explained any more, only written.
    closed: bool,
}

impl Explainer {
    /// Starts the thread, which writes to `log`.
    pub(super) fn start(log: AccessLog) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let explainer = Self(shared.clone());
        thread::Builder::new()
            .name("denials".into())
            .spawn(move || explain_lines(&log, &shared))?;
        Ok(explainer)
    }

    /// Has a line written with its explanation; gives it back when too many wait.
    pub(super) fn explain(&self, line: Unexplained) -> Result<(), Unexplained> {
        let mut state = self.0.lock();
        if state.closed || state.waiting.len() >= QUEUE {
            return Err(line);
        }
        state.waiting.push_back(line);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Waits until every line is with the access log, for 500 ms at most.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        self.0.changed.notify_all();
        let busy = |state: &mut State| state.working || !state.waiting.is_empty();
        let _ = self
            .0
            .changed
            .wait_timeout_while(state, LAST_LINES_WITHIN, busy);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next line, and whether it is to be explained; none once all are written and no more come.
    fn take(&self) -> Option<(Unexplained, bool)> {
        let mut state = self.lock();
        state.working = false;
        self.changed.notify_all();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self
            .changed
            .wait_while(state, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let line = state.waiting.pop_front()?;
        state.working = true;
        Some((line, !state.closed))
    }

    /// Waits for `time`, or until no more lines come.
    fn rest(&self, time: Duration) {
        let open = |state: &mut State| !state.closed;
        let _ = self.changed.wait_timeout_while(self.lock(), time, open);
    }
}

fn explain_lines(log: &AccessLog, shared: &Shared) {
    let mut owed = Duration::ZERO;
    while let Some((mut line, wanted)) = shared.take() {
        let started = Instant::now();
        if wanted && let Some(miss) = near_miss(&line) {
            add(&mut line.line, &miss);
        }
        log.line(&line.line);
        owed += started.elapsed() * REST;
        if owed >= SHORTEST_REST {
            shared.rest(std::mem::take(&mut owed));
        }
    }
}

fn near_miss(line: &Unexplained) -> Option<NearMiss> {
    let (source, destination) = (&line.parties.source, &line.parties.destination);
    let workload = destination.workload.as_ref()?;
    let workload = line.state.workload(&workload.uid)?;
    let connection = Connection {
        source: source.address,
        destination: destination.address,
        principal: source.identity.as_ref(),
    };
    nearest(&line.state.policies_for(workload), &connection)
}

/// A line is a JSON object: another field goes before its closing brace.
fn add(line: &mut String, nearest: &NearMiss) {
    #[derive(Serialize)]
    struct Field<'a> {
        nearest: &'a NearMiss,
    }
    let Ok(field) = serde_json::to_string(&Field { nearest }) else {
        return;
    };
    if line.ends_with('}') {
        line.pop();
        line.push(',');
        line.push_str(field.trim_start_matches('{'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Party, Reporter, Security};
    use mesh_common::proto::security::{Authorization, Clause, Match, Rule, StringMatch};
    use mesh_common::proto::security::{Scope, string_match::MatchType};
    use mesh_common::proto::workload::{Address, Workload, address::Type};
    use mesh_common::snapshot::SnapshotBuilder;

    /// The workload shop/web, which only alice may reach.
    fn state() -> Arc<Snapshot> {
        let mut builder = SnapshotBuilder::default();
        let workload = Workload {
            uid: "web".into(),
            name: "web".into(),
            namespace: "shop".into(),
            ..Workload::default()
        };
        let address = Address {
            r#type: Some(Type::Workload(workload)),
        };
        builder.upsert_address("web", address).unwrap();
        let alice = StringMatch {
            match_type: Some(MatchType::Exact("cluster.local/ns/shop/sa/alice".into())),
        };
        let matches = vec![Match {
            principals: vec![alice],
            ..Match::default()
        }];
        let policy = Authorization {
            name: "callers".into(),
            namespace: "shop".into(),
            scope: Scope::Namespace.into(),
            rules: vec![Rule {
                clauses: vec![Clause { matches }],
            }],
            ..Authorization::default()
        };
        builder.upsert_policy("shop/callers", policy).unwrap();
        Arc::new(builder.to_snapshot())
    }

    fn from_bob(line: String, state: &Arc<Snapshot>) -> Unexplained {
        let bob = "spiffe://cluster.local/ns/shop/sa/bob".parse().unwrap();
        let parties = Parties {
            reporter: Reporter::Destination,
            source: Party {
                identity: Some(bob),
                ..Party::unknown("10.0.0.2:4000".parse().unwrap())
            },
            destination: Party {
                workload: state.workload("web").cloned(),
                ..Party::unknown("10.0.0.1:80".parse().unwrap())
            },
            hbone_address: None,
            service: None,
            security: Security::MutualTls,
        };
        Unexplained {
            line,
            state: state.clone(),
            parties: Arc::new(parties),
        }
    }

    #[test]
    fn a_line_gets_what_the_connection_lacked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access.log");
        let log = AccessLog::open(file.to_str().unwrap()).unwrap();
        let explainer = Explainer::start(log.clone()).unwrap();
        let (sent, state) = (3, state());
        for i in 0..sent {
            let line = from_bob(format!("{{\"line\":{i}}}"), &state);
            explainer.explain(line).unwrap();
            // One after the other: those that wait when no more come are written as they are.
            while explainer.0.lock().working || !explainer.0.lock().waiting.is_empty() {
                thread::yield_now();
            }
        }
        explainer.close();
        let late = explainer.explain(from_bob("{}".into(), &state));
        assert!(late.is_err(), "a line after the end would never be written");
        log.close();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), sent);
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(line["line"], i);
            assert_eq!(line["nearest"]["policy"], "shop/callers");
            assert_eq!(line["nearest"]["failed"][0]["field"], "principals");
        }
    }

    #[test]
    fn of_a_flood_some_lines_are_given_back() {
        let explainer = Explainer(Arc::default());
        let state = state();
        let given_back =
            (0..QUEUE + 5).filter(|_| explainer.explain(from_bob("{}".into(), &state)).is_err());
        assert_eq!(given_back.count(), 5);
    }
}
