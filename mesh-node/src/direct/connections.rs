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
    end: DirectEnd,
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
                end,
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
                if self.end == DirectEnd::Server {
                    cut.note(&mut record);
                }
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
mod tests {
    use super::*;
    use crate::observe::{AccessLog, AgentMetrics, Metrics};
    use mesh_common::abi::{Address, DirectEvent, FlowKey};
    use serde_json::Value;

    const ESTABLISHED: u32 = 1;
    const FIN_WAIT2: u32 = 5;
    const LAST_ACK: u32 = 9;

    /// Connections whose lines and metrics can be read.
    struct Watched {
        connections: Connections,
        observer: Observer,
        file: tempfile::NamedTempFile,
    }

    impl Watched {
        fn new() -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            let log = AccessLog::open(&file.path().to_string_lossy()).unwrap();
            let observer = Observer::new(Arc::new(Metrics::new()), log);
            Self {
                connections: Connections::new(observer.clone()),
                observer,
                file,
            }
        }

        fn close(&mut self, port: u16, closing: Closing, now: Instant) {
            let at = Duration::from_millis(1500);
            self.connections
                .close(flow(port), closing, (at, now), || ends(allowed()));
        }

        /// The lines so far; there will be no more.
        fn lines(&self) -> Vec<Value> {
            self.observer.close();
            let text = std::fs::read_to_string(self.file.path()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.collect()
        }
    }

    fn flow(port: u16) -> Flow {
        Flow {
            client: 1,
            server: 2,
            source: ([10, 0, 0, 1], port).into(),
            destination: ([10, 0, 0, 2], 80).into(),
        }
    }

    fn allowed() -> Result<Verdict, Denied> {
        let snapshot = mesh_common::snapshot::Snapshot::default();
        let connection = mesh_common::policy::Connection {
            source: flow(1).source,
            destination: flow(1).destination,
            principal: None,
        };
        let workload = mesh_common::proto::workload::Workload {
            uid: "uid".into(),
            name: "web".into(),
            ..Default::default()
        };
        let workload = workload.try_into().unwrap();
        let policies = snapshot.policies_for(&workload);
        Ok(mesh_common::policy::decide(&policies, &connection))
    }

    fn ends(verdict: Result<Verdict, Denied>) -> Ends {
        Ends {
            client: Party::unknown(flow(1).source),
            server: Party::unknown(flow(1).destination),
            verdict,
        }
    }

    fn closing(end: DirectEnd, state: u32, acked: u64, received: u64) -> Closing {
        let none = Address::UNSPECIFIED;
        let event = DirectEvent {
            flow: FlowKey {
                netns: 0,
                local: none,
                remote: none,
                local_port: 0,
                remote_port: 0,
                padding: 0,
            },
            source: 0,
            time: 0,
            acked,
            received,
            kind: 0,
            end: end as u32,
            state,
            all_acked: 1,
        };
        Closing::new(end, &event)
    }

    fn client_first() -> [Closing; 2] {
        // SYN, 100 bytes, FIN; 7 bytes, FIN.
        [
            closing(DirectEnd::Client, FIN_WAIT2, 102, 8),
            closing(DirectEnd::Server, LAST_ACK, 8, 101),
        ]
    }

    #[test]
    fn both_ends_get_their_line_with_the_same_bytes() {
        let (mut watched, now) = (Watched::new(), Instant::now());
        let opened = Duration::from_secs(1);
        watched.connections.open(flow(1), &ends(allowed()), opened);
        let [client, server] = client_first();
        watched.close(1, client, now);
        assert_eq!(watched.connections.len(), 1, "the other end is waited for");
        watched.close(1, server, now);
        assert_eq!(watched.connections.len(), 0);
        let lines = watched.lines();
        assert_eq!(lines.len(), 2);
        for (line, direction, sent, received) in [
            (&lines[0], "outbound", 100, 7),
            (&lines[1], "inbound", 7, 100),
        ] {
            assert_eq!(line["direction"], direction);
            assert_eq!(line["connection_security_policy"], "direct");
            assert_eq!(
                (&line["bytes_sent"], &line["bytes_recv"]),
                (&sent.into(), &received.into())
            );
            assert_eq!(line["duration_ms"], 500);
            assert_eq!(line["response_flags"], "-");
            assert_eq!(line["error"], Value::Null);
        }
        assert_eq!(
            (&lines[0]["verdict"], &lines[1]["verdict"]),
            (&Value::Null, &"allow".into())
        );
        let text = watched
            .observer
            .metrics()
            .encode(&AgentMetrics::default())
            .unwrap();
        let value = |name: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with(name));
            let found = lines
                .find(|line| line.contains("reporter=\"source\""))
                .unwrap();
            assert!(
                found.contains("connection_security_policy=\"none\""),
                "{found}"
            );
            found.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(value("istio_tcp_connections_opened_total"), "1");
        assert_eq!(value("istio_tcp_connections_closed_total"), "1");
        assert_eq!(value("istio_tcp_received_bytes_total"), "100");
        assert_eq!(value("istio_tcp_sent_bytes_total"), "7");
    }

    #[test]
    fn an_end_that_stays_open_holds_up_the_other_for_a_while_only() {
        let (mut watched, now) = (Watched::new(), Instant::now());
        watched
            .connections
            .open(flow(1), &ends(allowed()), Duration::ZERO);
        let [client, server] = client_first();
        watched.close(1, client, now);
        watched.connections.settle(now);
        watched.connections.settle(now + OTHER_END_WITHIN);
        assert_eq!(watched.connections.len(), 1, "the server's end is open");
        watched.close(1, server, now);
        assert_eq!(watched.connections.len(), 0);
        let lines = watched.lines();
        assert_eq!(lines.len(), 2);
        // What the client could say alone, and what both know.
        assert_eq!(lines[0]["bytes_recv"], 8);
        assert_eq!(lines[1]["bytes_sent"], 7);
    }

    #[test]
    fn a_cut_connection_says_why() {
        let (mut watched, now) = (Watched::new(), Instant::now());
        for port in [1, 2] {
            watched
                .connections
                .open(flow(port), &ends(allowed()), Duration::ZERO);
        }
        let denied = Denied::Policy(Verdict::unknown_destination());
        let cut = Cut::Denied(denied);
        watched.connections.cut(|live| live.flow == flow(2), &cut);
        for port in [1, 2] {
            watched.close(port, closing(DirectEnd::Server, ESTABLISHED, 7, 100), now);
            watched.close(port, closing(DirectEnd::Client, ESTABLISHED, 101, 7), now);
        }
        let lines = watched.lines();
        let flags = |port: u16| -> Vec<_> {
            let of_it = |line: &&Value| line["src_addr"] == flow(port).source.to_string();
            let lines = lines.iter().filter(of_it);
            let pick = |line: &Value| (line["response_flags"].clone(), line["verdict"].clone());
            lines.map(pick).collect()
        };
        let ends = lines.iter().map(|line| line["error"].as_str().unwrap());
        let reset = ends.filter(|error| *error == "the connection was reset");
        assert_eq!(reset.count(), 2);
        assert!(flags(1).iter().all(|(flag, _)| flag == "-"), "{lines:?}");
        assert_eq!(
            flags(2),
            [("DENY".into(), Value::Null), ("DENY".into(), "deny".into())]
        );
    }

    #[test]
    fn one_that_was_not_followed_gets_its_lines_too() {
        let (mut watched, now) = (Watched::new(), Instant::now());
        const SYN_SENT: u32 = 2;
        watched.close(1, closing(DirectEnd::Client, LAST_ACK, 102, 8), now);
        watched.close(2, closing(DirectEnd::Client, SYN_SENT, 0, 0), now);
        let refused = closing(DirectEnd::Client, SYN_SENT, 0, 0);
        let at = Duration::ZERO;
        watched.connections.close(flow(3), refused, (at, now), || {
            ends(Err(Denied::Policy(Verdict::unknown_destination())))
        });
        assert_eq!(watched.connections.len(), 0);
        let lines = watched.lines();
        assert_eq!(
            (&lines[0]["bytes_sent"], &lines[0]["bytes_recv"]),
            (&100.into(), &7.into())
        );
        assert_eq!(lines[1]["response_flags"], "CONNECT");
        assert_eq!(lines[2]["response_flags"], "DENY");
    }

    #[test]
    fn a_lost_end_is_said_to_be_lost() {
        let (mut watched, now) = (Watched::new(), Instant::now());
        watched
            .connections
            .open(flow(1), &ends(allowed()), Duration::ZERO);
        watched
            .connections
            .lose(&flow(1), DirectEnd::Server, Duration::ZERO);
        watched.close(1, closing(DirectEnd::Client, LAST_ACK, 102, 8), now);
        assert_eq!(watched.connections.len(), 0);
        // The same addresses again, before the end of the first was told.
        for _ in 0..2 {
            watched
                .connections
                .open(flow(2), &ends(allowed()), Duration::ZERO);
        }
        assert_eq!(watched.connections.len(), 1);
        let lines = watched.lines();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            (&lines[0]["bytes_sent"], &lines[0]["error"]),
            (&100.into(), &Value::Null)
        );
        assert!(
            lines[1..]
                .iter()
                .all(|line| line["error"] == "its end was not seen")
        );
    }
}
