//! Capture out: which connects reach the agent, and what both ends know of them.

use aya::maps::{HashMap, Map, MapData};
use mesh_common::abi::map;
use mesh_node::bpf::Datapath;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use crate::lab::{Lab, PEER4, PEER6, POD4, POD6, Server, address, canonical, dial, ip};

/// A destination that only the agent could answer for: nothing routes there.
const FAR4: &str = "203.0.113.7:80";
const FAR6: &str = "[2001:db8::7]:80";
const FAR_MAPPED: &str = "[::ffff:203.0.113.7]:80";

fn count(datapath: &Datapath, program: &str, reason: &str) -> u64 {
    let counters = datapath.counters().unwrap();
    let found = counters
        .iter()
        .find(|(p, r, _)| (*p, *r) == (program, reason));
    found
        .unwrap_or_else(|| panic!("no counter {program}/{reason}"))
        .2
}

/// What the client should be told: its own address in the pod, the far end it dialled, and that
/// the agent read exactly that destination and that client.
fn expect_captured(answer: &str, dialled: &str, pod: &str) {
    let words: Vec<&str> = answer.split(' ').collect();
    let [local, peer, how, original, client] = words[..] else {
        panic!("{dialled}: {answer}");
    };
    let local: SocketAddr = local.parse().unwrap();
    let dialled: SocketAddr = dialled.parse().unwrap();
    assert_eq!(canonical(local).ip(), ip(pod), "getsockname: {answer}");
    assert_eq!(
        peer.parse::<SocketAddr>().unwrap(),
        dialled,
        "getpeername: {answer}"
    );
    assert_eq!(how, "captured");
    assert_eq!(
        original.parse::<SocketAddr>().unwrap(),
        canonical(dialled),
        "{answer}"
    );
    assert_eq!(
        client.parse::<SocketAddr>().unwrap(),
        canonical(local),
        "{answer}"
    );
}

#[test]
fn connects_reach_the_agent_with_their_original_destination() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    for (far, pod) in [(FAR4, POD4), (FAR6, POD6), (FAR_MAPPED, POD4)] {
        let answer = lab.app.ask(&format!("connect {far}"));
        expect_captured(&answer, far, pod);
        let answer = lab.app.ask(&format!("connect {far} eth0"));
        expect_captured(&answer, far, pod);
    }
    assert_eq!(count(&datapath, "connect", "redirect"), 6);
    assert_eq!(count(&datapath, "sock_ops", "handover_taken"), 6);
}

#[test]
fn many_racing_connects_keep_their_destinations() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("race 8 700").trim(), "0");
    assert_eq!(count(&datapath, "sock_ops", "handover_taken"), 5600);
}

#[test]
fn connections_that_end_leave_no_entries() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("race 4 100").trim(), "0");
    assert_eq!(count(&datapath, "sock_ops", "local_recorded"), 400);
    let entries = |name: &str| {
        let pinned = MapData::from_pin(lab.bpffs().join("v3/maps").join(name)).unwrap();
        let map = Map::from_map_data(pinned).unwrap();
        let keys: Vec<_> = match name {
            map::EXPECTED => HashMap::<_, [u8; 48], [u8; 16]>::try_from(map)
                .unwrap()
                .keys()
                .collect(),
            _ => HashMap::<_, [u8; 48], [u8; 24]>::try_from(map)
                .unwrap()
                .keys()
                .collect(),
        };
        keys.len()
    };
    lab.wait_until(|| entries(map::EXPECTED) == 0);
    lab.wait_until(|| entries(map::HANDOVER) == 0);
}

#[test]
fn what_is_not_to_be_captured_passes() {
    let mut lab = Lab::new();
    let mut options = lab.options();
    options.exclude_cidrs = vec![format!("{PEER6}/128").parse().unwrap()];
    let datapath = Arc::new(Datapath::open(&options).unwrap());
    let _agent = lab.enroll(&datapath);
    let seen =
        |stream: &std::net::TcpStream| format!("direct {}", stream.peer_addr().unwrap().ip());
    let _port = Server::start(&lab.peer, address(PEER4, 9999), seen);
    let _cidr = Server::start(&lab.peer, address(PEER6, 80), seen);
    let answer = lab.app.connect(address(PEER4, 9999));
    assert!(
        answer.ends_with(&format!("{PEER4}:9999 direct {POD4}")),
        "excluded port: {answer}"
    );
    let answer = lab.app.connect(address(PEER6, 80));
    assert!(
        answer.ends_with(&format!("[{PEER6}]:80 direct {POD6}")),
        "excluded CIDR: {answer}"
    );
    // The pod's own addresses and loopback belong to the application, not to the agent.
    assert_eq!(lab.app.ask("serve [::]:7000"), "serving");
    for own in [
        "127.0.0.1:7000",
        "[::1]:7000",
        "10.203.0.2:7000",
        "[fd77:3::2]:7000",
        "0.0.0.0:7000",
    ] {
        let answer = lab.app.ask(&format!("connect {own}"));
        assert!(answer.contains(" app accept="), "{own}: {answer}");
    }
    // IPv6 to its own address arrives with another interface than loopback, as does a bound socket.
    for own in ["10.203.0.2:7000 eth0", "[fd77:3::2]:7000 eth0"] {
        let answer = lab.app.ask(&format!("connect {own}"));
        assert!(answer.contains(" app accept="), "{own}: {answer}");
    }
    assert_eq!(count(&datapath, "connect", "pass_excluded_port"), 1);
    assert_eq!(count(&datapath, "connect", "pass_excluded_cidr"), 1);
    assert_eq!(count(&datapath, "connect", "pass_loopback"), 3);
    assert_eq!(count(&datapath, "connect", "pass_own_address"), 4);
    assert_eq!(count(&datapath, "connect", "redirect"), 0);
}

#[test]
fn udp_is_left_alone() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    for (peer, pod) in [(PEER4, POD4), (PEER6, POD6)] {
        let server = lab
            .peer
            .run(|| UdpSocket::bind(address(peer, 5353)))
            .unwrap()
            .unwrap();
        let echo = thread::spawn(move || {
            let mut buffer = [0; 16];
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server
                .send_to(from.ip().to_string().as_bytes(), from)
                .unwrap();
        });
        let answer = lab.app.ask(&format!("udp {}", address(peer, 5353)));
        assert!(
            answer.ends_with(&format!("{} {pod}", address(peer, 5353))),
            "{answer}"
        );
        echo.join().unwrap();
    }
}

#[test]
fn a_reused_socket_forgets_its_first_destination() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:7000"), "serving");
    let answer = lab.app.ask(&format!("reconnect {FAR4} 127.0.0.1:7000"));
    let peer = answer.split(' ').nth(1);
    assert_eq!(peer, Some("127.0.0.1:7000"), "{answer}");
}

#[test]
fn the_agents_own_connects_pass_from_sub_cgroups_too() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let _server = Server::start(&lab.peer, address(PEER4, 80), |_| "direct".into());
    assert_eq!(lab.pod.run(|| dial(address(PEER4, 80))).unwrap(), "direct");
    lab.enter_agent_subgroup();
    assert_eq!(lab.pod.run(|| dial(address(PEER4, 80))).unwrap(), "direct");
    assert_eq!(count(&datapath, "connect", "pass_agent"), 2);
}

#[test]
fn a_family_that_the_pod_lacks_is_refused_not_let_through() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    agent.enroll(&datapath, &lab.pod, &[ip(POD4)]);
    let _server = Server::start(&lab.peer, address(PEER6, 80), |_| "plaintext leaked".into());
    assert_eq!(
        lab.app.connect(address(PEER6, 80)),
        "error: PermissionDenied"
    );
    assert_eq!(count(&datapath, "connect", "drop_no_pod_address"), 1);
}

#[test]
fn multipath_tcp_does_not_get_around_the_agent() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let _server = Server::start(&lab.peer, address(PEER4, 80), |_| "plaintext leaked".into());
    let answer = lab.app.ask(&format!("connect-mptcp {PEER4}:80"));
    assert!(
        answer.contains(&format!(" captured {PEER4}:80 ")),
        "{answer}"
    );
}
