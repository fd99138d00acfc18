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
            .close(flow(port), closing, (at, now), || ends(port, allowed()));
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
        namespace: "shop".into(),
        ..Default::default()
    };
    let workload = workload.try_into().unwrap();
    let policies = snapshot.policies_for(&workload);
    Ok(mesh_common::policy::decide(&policies, &connection))
}

fn ends(port: u16, verdict: Result<Verdict, Denied>) -> Ends {
    Ends {
        client: Party::unknown(flow(port).source),
        server: Party::unknown(flow(port).destination),
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
    watched
        .connections
        .open(flow(1), &ends(1, allowed()), opened);
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
        .open(flow(1), &ends(1, allowed()), Duration::ZERO);
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
            .open(flow(port), &ends(port, allowed()), Duration::ZERO);
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
        [
            ("DENY".into(), "deny".into()),
            ("DENY".into(), "deny".into())
        ]
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
        ends(3, Err(Denied::Policy(Verdict::unknown_destination())))
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
        .open(flow(1), &ends(1, allowed()), Duration::ZERO);
    watched
        .connections
        .lose(&flow(1), DirectEnd::Server, Duration::ZERO);
    watched.close(1, closing(DirectEnd::Client, LAST_ACK, 102, 8), now);
    assert_eq!(watched.connections.len(), 0);
    // The same addresses again, before the end of the first was told.
    for _ in 0..2 {
        watched
            .connections
            .open(flow(2), &ends(2, allowed()), Duration::ZERO);
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
