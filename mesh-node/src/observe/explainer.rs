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
        std::thread::Builder::new()
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
