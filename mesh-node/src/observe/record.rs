//! The record of one connection, from its first decision to its last byte.

use mesh_common::policy::{Reason, Reports, Verdict};
use mesh_common::snapshot::Snapshot;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::explainer::Unexplained;
use super::line::{Said, line};
use super::live::{Number, Open};
use super::series::{Series, series};
use super::{Flag, Observer, Outcome, Parties, Reporter, Traffic};
use crate::hbone::TraceParent;

/// One connection's record. Ending it (or dropping it) writes the access-log line.
#[derive(Debug)]
pub struct Record {
    observer: Observer,
    /// Shared once the connection is open.
    parties: Arc<Parties>,
    started: Instant,
    lasted: Option<Duration>,
    /// Once it is open.
    open: Option<(Arc<Traffic>, Number)>,
    verdict: Option<Verdict>,
    /// Boxed: few connections have any.
    reports: Option<Box<Reports>>,
    /// The state under which no ALLOW policy allowed it.
    unexplained: Option<Arc<Snapshot>>,
    trace: Option<TraceParent>,
    /// Boxed: it is known for a moment only.
    outcome: Option<Box<Outcome>>,
}

impl Record {
    pub(super) fn new(observer: Observer, parties: Parties) -> Self {
        Self {
            observer,
            parties: Arc::new(parties),
            started: Instant::now(),
            lasted: None,
            open: None,
            verdict: None,
            reports: None,
            unexplained: None,
            trace: None,
            outcome: None,
        }
    }

    /// Who talks to whom, as far as it is known.
    #[must_use]
    pub fn parties(&self) -> &Parties {
        &self.parties
    }

    /// Changes what is known of the parties; only meaningful before [`Record::opened`].
    pub fn parties_mut(&mut self) -> &mut Parties {
        Arc::make_mut(&mut self.parties)
    }

    /// Notes what ties this record to that of the other end.
    pub fn traced(&mut self, trace: Option<TraceParent>) {
        self.trace = trace;
    }

    /// Notes what policy said; the last verdict is the one reported. The destination's are counted: it decides.
    pub fn decided(&mut self, verdict: Verdict) {
        if self.parties.reporter == Reporter::Destination {
            self.observer.metrics.decisions.decided(&verdict);
        }
        self.verdict = Some(verdict);
    }

    /// As [`Record::decided`], of a denial. Under `state` the line will say what the connection lacked.
    pub fn denied(&mut self, verdict: Verdict, state: Arc<Snapshot>) {
        if verdict.reason == Reason::NoAllowMatched {
            self.unexplained = Some(state);
        }
        self.decided(verdict);
    }

    /// Notes what policies said that enforce nothing.
    pub fn reported(&mut self, reports: Reports) {
        self.observer.metrics.decisions.reported(&reports);
        self.reports = (reports != Reports::default()).then(|| Box::new(reports));
    }

    /// Says how long the connection lasted, where that is known better than by the record's own life.
    pub fn lasted(&mut self, duration: Duration) {
        self.lasted = Some(duration);
    }

    /// The connection is established: counts it as opened, lists it among the open ones and returns its
    /// byte counters.
    pub fn opened(&mut self) -> Arc<Traffic> {
        let series = self.series(Flag::Ok);
        series.opened().inc();
        let traffic = Arc::new(Traffic::new(&series));
        let number = self.observer.live.insert(Open {
            parties: self.parties.clone(),
            traffic: traffic.clone(),
            since: self.started,
        });
        self.open = Some((traffic.clone(), number));
        traffic
    }

    fn series(&self, flag: Flag) -> Rc<Series> {
        series(&self.observer.metrics, &self.parties, flag.label())
    }

    /// Ends the record.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = Some(Box::new(outcome));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self
            .outcome
            .take()
            .map(|outcome| *outcome)
            .unwrap_or_else(|| Outcome::failed(Flag::Ok, "the agent shut the connection down"));
        let series = self.series(outcome.flag);
        let carried = match &self.open {
            Some((traffic, number)) => {
                self.observer.live.remove(*number);
                series.closed().inc();
                traffic.counted()
            }
            None => {
                series.failed().inc();
                (0, 0)
            }
        };
        let said = Said {
            parties: &self.parties,
            carried,
            lasted: self.lasted.unwrap_or_else(|| self.started.elapsed()),
            verdict: self.verdict.as_ref(),
            reports: self.reports.as_deref(),
            trace: self.trace.as_ref(),
            outcome: &outcome,
        };
        let line = match line(&said) {
            Ok(line) => line,
            Err(e) => return tracing::error!("access log: cannot encode a line: {e}"),
        };
        match self.unexplained.take() {
            None => self.observer.write(&line),
            Some(state) => self.observer.write_explained(Unexplained {
                line,
                state,
                parties: self.parties.clone(),
            }),
        }
    }
}
