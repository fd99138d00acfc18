//! The direct connections that are alive, and their records: one for each end, as for any other connection.

use mesh_common::abi::DirectEnd;
use mesh_common::identity::SpiffeId;
use mesh_common::policy::Verdict;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::closing::{Closing, carried};
use super::decide::Denied;
use super::reaper::Flow;
use crate::observe::{
    Flag, Observer, Outcome, Parties, Party, Record, Reporter, Security, Traffic,
};

/// Connections that are followed at once. Those beyond are cut by policy as any others, and get their
/// lines, but are not known while they are open.
const FOLLOWED: usize = 65_536;
/// When one end has closed, the other's word is waited for so long: it knows better what was carried.
const OTHER_END_WITHIN: Duration = Duration::from_secs(2);

/// Why the agent cut a connection.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// The newest state does not allow it.
    Denied(Denied),
    /// Somebody else than the pod answered.
    Stray,
    /// The agent ends, or shall do without direct connections.
    Ended(&'static str),
}

impl Cut {
    fn note(&self, record: &mut Record) {
        if let Self::Denied(Denied::Policy(verdict)) = self {
            record.decided(verdict.clone());
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Denied(Denied::Policy(verdict)) => Outcome::failed(
                Flag::Denied,
                format_args!("closed by a policy change: {}", verdict.reason),
            ),
            Self::Denied(Denied::Identity) => Outcome::failed(
                Flag::Denied,
                "closed because the client is no longer who it was",
            ),
            Self::Stray => Outcome::failed(
                Flag::Connect,
                "closed because the answer did not come from the destination pod on this node",
            ),
            Self::Ended(why) => Outcome::failed(Flag::Ok, why),
        }
    }
}

/// One end.
#[derive(Debug)]
struct Side {
    /// Until its line is written.
    record: Option<(Record, Arc<Traffic>)>,
    closing: Option<Closing>,
    /// It is gone, and there will be no word of it.
    lost: bool,
    /// Since boot.
    closed: Duration,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) flow: Flow,
    /// The client's identity when it opened.
    pub(super) identity: Option<SpiffeId>,
    /// Since boot.
    pub(super) opened: Duration,
    client: Side,
    server: Side,
    first_gone: Option<Instant>,
    cut: Option<Cut>,
}

/// The two ends of a connection, as the state knows them.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) client: Party,
    pub(super) server: Party,
    /// What the state says of the connection.
    pub(super) verdict: Result<Verdict, Denied>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Connections {
    observer: Observer,
    live: HashMap<Flow, Live>,
}

impl Connections {
    pub(super) fn new(observer: Observer) -> Self {
        Self {
            observer,
            live: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether more may be open than are known.
    pub(super) fn is_full(&self) -> bool {
        self.live.len() >= FOLLOWED
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    pub(super) fn knows(&self, flow: &Flow) -> bool {
        self.live.contains_key(flow)
    }

    /// A connection is open since `at`, a time since boot.
    pub(super) fn open(&mut self, flow: Flow, ends: &Ends, at: Duration) {
        if let Some(mut earlier) = self.live.remove(&flow) {
            // The end of an earlier one with the same addresses was not told.
            earlier.lose(DirectEnd::Client, at);
            earlier.lose(DirectEnd::Server, at);
            earlier.settle(false);
        }
        if !self.is_full() {
            let opened = Live::new(&self.observer, flow, ends, at);
            self.live.insert(flow, opened);
        }
    }

    /// One end is closed since `at`, a time since boot. `ends` describes a connection that was not known.
    pub(super) fn close(
        &mut self,
        flow: Flow,
        closing: Closing,
        (at, now): (Duration, Instant),
        ends: impl FnOnce() -> Ends,
    ) {
        let Some(live) = self.live.get_mut(&flow) else {
            return close_unknown(&self.observer, flow, closing, &ends());
        };
        let side = live.side(closing.end());
        side.closing = Some(closing);
        side.closed = at;
        live.first_gone.get_or_insert(now);
        if live.settle(false) {
            self.live.remove(&flow);
        }
    }

    /// Notes why the connections for which `doomed` says so are about to be cut.
    pub(super) fn cut(&mut self, doomed: impl Fn(&Live) -> bool, why: &Cut) {
        for live in self.live.values_mut().filter(|live| doomed(live)) {
            live.cut.get_or_insert_with(|| why.clone());
        }
    }

    /// One end is gone at `at`, a time since boot, and its last word was lost.
    pub(super) fn lose(&mut self, flow: &Flow, end: DirectEnd, at: Duration) {
        if let Some(live) = self.live.get_mut(flow) {
            live.lose(end, at);
            if live.settle(false) {
                self.live.remove(flow);
            }
        }
    }

    /// Ends the records of those whose other end was waited for long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        self.live.retain(|_, live| {
            let waited = live
                .first_gone
                .is_some_and(|first| now.duration_since(first) >= OTHER_END_WITHIN);
            !live.settle(waited)
        });
    }
}

impl Live {
    fn new(observer: &Observer, flow: Flow, ends: &Ends, at: Duration) -> Self {
        let side = |end| {
            let mut record = begin(observer, end, ends);
            let traffic = record.opened();
            Side {
                record: Some((record, traffic)),
                closing: None,
                lost: false,
                closed: at,
            }
        };
        Self {
            flow,
            identity: ends.client.identity.clone(),
            opened: at,
            client: side(DirectEnd::Client),
            server: side(DirectEnd::Server),
            first_gone: None,
            cut: None,
        }
    }

    fn side(&mut self, end: DirectEnd) -> &mut Side {
        match end {
            DirectEnd::Client => &mut self.client,
            DirectEnd::Server => &mut self.server,
        }
    }

    /// Whether this end is open, as far as is known.
    pub(super) fn is_open(&self, end: DirectEnd) -> bool {
        match end {
            DirectEnd::Client => !self.client.is_gone(),
            DirectEnd::Server => !self.server.is_gone(),
        }
    }

    fn lose(&mut self, end: DirectEnd, at: Duration) {
        let side = self.side(end);
        if !side.is_gone() {
            side.lost = true;
            side.closed = at;
            self.first_gone.get_or_insert_with(Instant::now);
        }
    }

    /// Writes the lines that can be written: of the ends that are gone, once the other is too or was
    /// `waited` for. True when there is none left.
    fn settle(&mut self, waited: bool) -> bool {
        if waited || (self.client.is_gone() && self.server.is_gone()) {
            let (client, server) = (self.client.closing, self.server.closing);
            let carried = (
                carried(client.as_ref(), server.as_ref()),
                carried(server.as_ref(), client.as_ref()),
            );
            let said: Vec<Closing> = client.into_iter().chain(server).collect();
            for side in [&mut self.client, &mut self.server] {
                if side.is_gone() {
                    side.finish(self.cut.as_ref(), &said, carried, self.opened);
                }
            }
        }
        self.client.record.is_none() && self.server.record.is_none()
    }
}

impl Side {
    fn is_gone(&self) -> bool {
        self.closing.is_some() || self.lost
    }

    fn finish(
        &mut self,
        cut: Option<&Cut>,
        said: &[Closing],
        (up, down): (u64, u64),
        opened: Duration,
    ) {
        let Some((mut record, traffic)) = self.record.take() else {
            return;
        };
        traffic.from_client(up);
        traffic.to_client(down);
        record.lasted(self.closed.saturating_sub(opened));
        let outcome = match cut {
            Some(cut) => {
                cut.note(&mut record);
                cut.outcome()
            }
            None if self.lost => Outcome::failed(Flag::Ok, "its end was not seen"),
            None => ended(said),
        };
        record.end(outcome);
    }
}

/// Writes the line of a connection that ended and was not followed.
fn close_unknown(observer: &Observer, flow: Flow, closing: Closing, ends: &Ends) {
    let mut record = begin(observer, closing.end(), ends);
    let denied = ends.verdict.as_ref().err();
    if closing.is_unanswered() {
        let outcome = match denied {
            Some(denied) => Cut::Denied(denied.clone()).outcome(),
            None => {
                let to = flow.destination;
                let error = format!("{to} refused the connection, or did not answer");
                Outcome::failed(Flag::Connect, error)
            }
        };
        return record.end(outcome);
    }
    let traffic = record.opened();
    let (client, server) = match closing.end() {
        DirectEnd::Client => (Some(&closing), None),
        DirectEnd::Server => (None, Some(&closing)),
    };
    traffic.from_client(carried(client, server));
    traffic.to_client(carried(server, client));
    record.end(match denied {
        Some(denied) => Cut::Denied(denied.clone()).outcome(),
        None => ended(&[closing]),
    });
}

fn begin(observer: &Observer, end: DirectEnd, ends: &Ends) -> Record {
    let reporter = match end {
        DirectEnd::Client => Reporter::Source,
        DirectEnd::Server => Reporter::Destination,
    };
    let mut record = observer.begin(Parties {
        reporter,
        source: ends.client.clone(),
        destination: ends.server.clone(),
        hbone_address: None,
        service: None,
        security: Security::Direct,
    });
    // As for a tunnel, it is the destination's side that decides.
    if reporter == Reporter::Destination {
        match &ends.verdict {
            Ok(verdict) | Err(Denied::Policy(verdict)) => record.decided(verdict.clone()),
            Err(Denied::Identity) => {}
        }
    }
    record
}

fn ended(said: &[Closing]) -> Outcome {
    if said.iter().all(Closing::is_complete) {
        Outcome::completed()
    } else {
        Outcome::failed(Flag::Ok, "the connection was reset")
    }
}

#[cfg(test)]
mod tests;
