//! The same-node fast path: what is exempted, what is not, what the kernel tells of it and how it ends.

use mesh_common::abi::{DirectEnd, DirectEvent, DirectEventKind};
use mesh_node::bpf::{Datapath, DirectEvents, DirectRoute};
use mesh_node::sys::Netns;
use mesh_node::sys::sock_diag::{SockDiag, TcpSocket};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use crate::lab::{Agent, Lab, PEER4, PEER6, POD4, POD6, Server, address, ip};

const LEASE: Duration = Duration::from_secs(60);
const MAPPED: &str = "[::ffff:10.203.0.1]:8080";

fn count(datapath: &Datapath, program: &str, reason: &str) -> u64 {
    let counters = datapath.counters().unwrap();
    let found = counters
        .iter()
        .find(|(p, r, _)| (*p, *r) == (program, reason));
    found.unwrap().2
}

/// Two enrolled pods, the application in the first, and a server in the second that names its client.
struct Two {
    _pod: Agent,
    _peer: Agent,
    _server: Server,
    events: DirectEvents,
    datapath: Arc<Datapath>,
    lab: Lab,
}

impl Two {
    fn new() -> Self {
        let lab = Lab::new();
        let datapath = Arc::new(lab.open());
        let pod = lab.enroll(&datapath);
        let peer = Agent::start(&lab.peer, &datapath);
        peer.enroll(&datapath, &lab.peer, &[ip(PEER4), ip(PEER6)]);
        let server = Server::start(&lab.peer, address("::", 8080), |stream| {
            format!(
                "application {}",
                stream.peer_addr().unwrap().ip().to_canonical()
            )
        });
        Self {
            _pod: pod,
            _peer: peer,
            _server: server,
            events: datapath.direct_events().unwrap(),
            datapath,
            lab,
        }
    }

    fn route(&self, source: &str, destination: &str) -> DirectRoute {
        DirectRoute {
            client: self.lab.pod.cookie(),
            source: ip(source),
            server: self.lab.peer.cookie(),
            destination: address(destination, 8080),
        }
    }

    fn exempt(&self, source: &str, destination: &str) -> DirectRoute {
        let route = self.route(source, destination);
        assert!(self.datapath.exempt(&route).unwrap());
        route
    }

    fn lease(&self, time: Duration) {
        self.datapath.lease_exemptions(time).unwrap();
    }

    /// Connects, and tells who answered: the application itself, or the agent that captured.
    fn connect(&mut self, to: &str) -> String {
        let answer = self.lab.app.ask(&format!("connect {to}"));
        answer.split(' ').skip(2).collect::<Vec<_>>().join(" ")
    }

    /// The events so far, once there are `n`.
    fn events(&mut self, n: usize) -> Vec<DirectEvent> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let mut found = Vec::new();
        while found.len() < n {
            assert!(std::time::Instant::now() < deadline, "only {found:?}");
            found.extend(self.events.next());
        }
        assert_eq!(self.events.next(), None);
        found
    }

    fn count(&self, program: &str, reason: &str) -> u64 {
        count(&self.datapath, program, reason)
    }

    /// The marked connections in a namespace.
    fn marked(&self, netns: &Netns) -> Vec<TcpSocket> {
        let marks = self.datapath.direct_marks().unwrap();
        let all = SockDiag::open(netns).unwrap();
        let mut all = all.connections(marks.as_fd()).unwrap();
        all.retain(|socket| socket.direct.is_some());
        all
    }
}

#[test]
fn an_exempted_connect_reaches_the_application_itself() {
    let mut two = Two::new();
    two.lease(LEASE);
    let (to4, to6) = (format!("{PEER4}:8080"), format!("[{PEER6}]:8080"));
    for to in [&to4, &to6] {
        assert!(
            two.connect(to).starts_with("captured "),
            "{to} is not exempted"
        );
    }
    let four = two.exempt(POD4, PEER4);
    assert_eq!(two.connect(&to4), format!("application {POD4}"));
    assert_eq!(two.connect(MAPPED), format!("application {POD4}"));
    assert!(
        two.connect(&to6).starts_with("captured "),
        "only IPv4 is exempted"
    );
    two.exempt(POD6, PEER6);
    assert_eq!(two.connect(&to6), format!("application {POD6}"));
    // Another port of the same pod, and nothing at all.
    let other = two.connect(&format!("{PEER4}:8081"));
    assert!(other.starts_with("captured "), "{other}");
    assert_eq!(two.count("connect", "pass_direct"), 3);
    assert_eq!(two.count("sk_lookup", "pass_direct"), 3);
    assert_eq!(two.count("sock_ops", "direct_taken"), 3);
    two.datapath.end_exemption(&four).unwrap();
    two.datapath.end_exemption(&four).unwrap();
    assert!(
        two.connect(&to4).starts_with("captured "),
        "it is withdrawn"
    );
    assert_eq!(two.connect(&to6), format!("application {POD6}"));
}

#[test]
fn without_a_lease_nothing_is_exempted() {
    let mut two = Two::new();
    let to = format!("{PEER4}:8080");
    two.exempt(POD4, PEER4);
    assert!(two.connect(&to).starts_with("captured "), "before a lease");
    two.lease(LEASE);
    assert_eq!(two.connect(&to), format!("application {POD4}"));
    two.lease(Duration::from_nanos(1));
    assert!(
        two.connect(&to).starts_with("captured "),
        "the lease is over"
    );
    two.lease(LEASE);
    assert_eq!(two.connect(&to), format!("application {POD4}"));
    two.lease(Duration::ZERO);
    assert!(
        two.connect(&to).starts_with("captured "),
        "the lease is ended"
    );
    // The next agent begins with nothing.
    two.lease(LEASE);
    let next = Arc::new(two.lab.open());
    next.lease_exemptions(LEASE).unwrap();
    assert!(two.connect(&to).starts_with("captured "), "inherited");
}

#[test]
fn an_exemption_holds_for_its_two_pods_only() {
    let mut two = Two::new();
    two.lease(LEASE);
    let to = format!("{PEER4}:8080");
    two.exempt(POD4, PEER4);
    assert_eq!(two.connect(&to), format!("application {POD4}"));
    // Whichever of the two leaves.
    two.datapath.unenroll(two.lab.peer.cookie()).unwrap();
    let answer = two.connect(&to);
    assert!(
        answer.starts_with("captured "),
        "the destination left: {answer}"
    );
    assert!(!two.datapath.exempt(&two.route(POD4, PEER4)).unwrap());
    two._peer
        .enroll(&two.datapath, &two.lab.peer, &[ip(PEER4), ip(PEER6)]);
    assert!(
        two.connect(&to).starts_with("captured "),
        "it came back without it"
    );
    two.exempt(POD4, PEER4);
    two.datapath.unenroll(two.lab.pod.cookie()).unwrap();
    two._pod
        .enroll(&two.datapath, &two.lab.pod, &Lab::addresses());
    assert!(two.connect(&to).starts_with("captured "), "the source left");
}

#[test]
fn a_connect_from_another_address_is_refused_before_it_leaves() {
    let mut two = Two::new();
    two.lease(LEASE);
    two.exempt("10.203.0.9", PEER4);
    let answer = two.lab.app.ask(&format!("connect {PEER4}:8080"));
    assert_eq!(answer, "error: ConnectionRefused");
    assert_eq!(two.count("sock_ops", "direct_refused"), 1);
    assert_eq!(two.count("sk_lookup", "drop_direct_refused"), 1);
    let events = two.events(1);
    assert_eq!(events[0].kind, DirectEventKind::Closed as u32);
    // A socket that is bound to the right address, or to a wrong one, is told at once.
    let bound = |two: &mut Two, source: &str| {
        let answer = two
            .lab
            .app
            .ask(&format!("connect-from {source} {PEER4}:8080"));
        answer.split(' ').nth(2).map(str::to_owned)
    };
    assert_eq!(bound(&mut two, POD4).as_deref(), Some("captured"));
    two.exempt(POD4, PEER4);
    assert_eq!(bound(&mut two, POD4).as_deref(), Some("application"));
}

#[test]
fn an_answer_from_elsewhere_is_told() {
    let mut two = Two::new();
    two.lease(LEASE);
    // A pod that has the address as far as the tables go, while packets go to another.
    let elsewhere = two.lab.short_lived_netns();
    let agent = Agent::start(&elsewhere, &two.datapath);
    agent.enroll(&two.datapath, &elsewhere, &[ip(PEER4)]);
    two.datapath.unenroll(two.lab.peer.cookie()).unwrap();
    let mut route = two.route(POD4, PEER4);
    route.server = elsewhere.cookie();
    assert!(two.datapath.exempt(&route).unwrap());
    assert_eq!(
        two.connect(&format!("{PEER4}:8080")),
        format!("application {POD4}")
    );
    assert_eq!(two.count("sock_ops", "direct_stray"), 1);
    let events = two.events(2);
    assert_eq!(events[0].kind, DirectEventKind::Stray as u32);
    assert_eq!(events[0].flow.netns, elsewhere.cookie());
    assert_eq!(IpAddr::from(events[0].flow.local), ip(PEER4));
}

#[test]
fn a_reused_socket_forgets_that_it_was_exempted() {
    let mut two = Two::new();
    two.lease(LEASE);
    two.exempt(POD4, PEER4);
    let again = format!("reconnect {PEER4}:8080 203.0.113.7:80");
    let answer = two.lab.app.ask(&again);
    assert!(answer.contains(" captured 203.0.113.7:80 "), "{answer}");
    two.events(3);
    assert!(two.marked(&two.lab.pod).is_empty());
}

#[test]
fn the_kernel_tells_of_both_ends_and_their_bytes() {
    let mut two = Two::new();
    two.lease(LEASE);
    two.exempt(POD4, PEER4);
    assert_eq!(
        two.connect(&format!("{PEER4}:8080")),
        format!("application {POD4}")
    );
    let said = format!("application {POD4}\n").len() as u64;
    let events = two.events(3);
    let (client, server) = (two.lab.pod.cookie(), two.lab.peer.cookie());
    for event in &events {
        assert_eq!((event.source, event.flow.netns), (client, server));
        assert_eq!(IpAddr::from(event.flow.remote), ip(POD4));
        assert_eq!(event.flow.local_port, 8080);
    }
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    let closed = DirectEventKind::Closed as u32;
    assert_eq!(kinds, [DirectEventKind::Opened as u32, closed, closed]);
    let end = |end: DirectEnd| events[1..].iter().find(|e| e.end == end as u32).unwrap();
    let (client, server) = (end(DirectEnd::Client), end(DirectEnd::Server));
    // The server closes first: its data and FIN, the client's SYN and FIN.
    assert_eq!((server.acked, server.all_acked), (said + 1, 1));
    assert_eq!((client.acked, client.received), (2, said + 1));
}

#[test]
fn both_ends_can_be_found_and_ended() {
    let mut two = Two::new();
    two.lease(LEASE);
    // Accepted, but never served: it stays open.
    drop(std::mem::replace(
        &mut two._server,
        Server::start(&two.lab.peer, address("::", 8081), |_| String::new()),
    ));
    let quiet = quiet(&two.lab.peer);
    two.exempt(POD4, PEER4);
    two.exempt(POD6, PEER6);
    for to in [
        format!("{PEER4}:8080"),
        MAPPED.into(),
        format!("[{PEER6}]:8080"),
    ] {
        let answer = two.lab.app.ask(&format!("hold {to}"));
        assert!(answer.ends_with(" quiet"), "{to}: {answer}");
    }
    let marks = two.datapath.direct_marks().unwrap();
    let (pod, peer) = (SockDiag::open(&two.lab.pod), SockDiag::open(&two.lab.peer));
    let (pod, peer) = (pod.unwrap(), peer.unwrap());
    let clients = two.marked(&two.lab.pod);
    let servers = two.marked(&two.lab.peer);
    assert_eq!((clients.len(), servers.len()), (3, 3));
    for client in &clients {
        let mark = client.direct.unwrap();
        assert!(mark.is_client());
        let cookies = (two.lab.pod.cookie(), two.lab.peer.cookie());
        assert_eq!((mark.source, mark.destination), cookies);
        let far = servers.iter().find(|s| s.remote == client.local).unwrap();
        assert_eq!(far.local, client.remote);
        assert!(!far.direct.unwrap().is_client());
        assert_eq!(client.remote.port(), 8080);
    }
    assert_eq!(two.lab.app.ask("ended 0"), "");
    for server in &servers {
        assert!(peer.destroy(server).unwrap());
        assert!(!peer.destroy(server).unwrap(), "it is gone");
    }
    two.lab.wait_until(|| two.marked(&two.lab.pod).is_empty());
    assert!(!pod.destroy(&clients[0]).unwrap());
    assert_eq!(
        two.lab.app.ask("ended 3"),
        "ConnectionReset ConnectionReset ConnectionReset"
    );
    // Listeners are no connections, and were not touched.
    let rest = peer.connections(marks.as_fd()).unwrap();
    assert!(rest.iter().all(|s| s.direct.is_none()), "{rest:?}");
    assert_eq!(
        two.lab
            .app
            .ask(&format!("hold {PEER4}:8080"))
            .split(' ')
            .nth(2),
        Some("quiet")
    );
    drop(quiet);
}

/// A server at port 8080 that says one word and holds its connections.
fn quiet(netns: &Netns) -> Server {
    let held = std::sync::Mutex::new(Vec::new());
    Server::start(netns, SocketAddr::new(ip("::"), 8080), move |stream| {
        held.lock().unwrap().push(stream.try_clone().unwrap());
        "quiet".into()
    })
}
