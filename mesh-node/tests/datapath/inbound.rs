//! Capture in: what reaches the agent's listeners, what reaches the application, and what neither.

use mesh_node::bpf::Datapath;
use mesh_node::sys::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use crate::lab::{Lab, PEER4, PEER6, POD4, POD6, address, ip, read_line};

fn count(datapath: &Datapath, reason: &str) -> u64 {
    let counters = datapath.counters().unwrap();
    counters
        .iter()
        .find(|(p, r, _)| (*p, *r) == ("sk_lookup", reason))
        .unwrap()
        .2
}

#[test]
fn connections_from_outside_are_steered_by_port() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    for (pod, peer) in [(POD4, PEER4), (POD6, PEER6)] {
        // 4444: a port where nobody listens; 15001 and 15006: the agent's own.
        for port in [8080, 4444, 15001, 15006] {
            let to = address(pod, port);
            assert_eq!(lab.dial_from_peer(to), format!("plaintext {to} {peer}"));
        }
        let to = address(pod, 15008);
        assert_eq!(lab.dial_from_peer(to), format!("hbone {to} {peer}"));
    }
    assert_eq!(lab.app.accepted(), 0);
    assert_eq!(count(&datapath, "redirect_plaintext"), 8);
    assert_eq!(count(&datapath, "redirect_hbone"), 2);
}

#[test]
fn without_the_agents_listeners_nothing_gets_through() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    drop(agent);
    for pod in [POD4, POD6] {
        for port in [8080, 15008] {
            assert_eq!(
                lab.dial_from_peer(address(pod, port)),
                "error: ConnectionRefused"
            );
        }
    }
    assert_eq!(lab.app.accepted(), 0);
    assert_eq!(count(&datapath, "drop_no_listener"), 4);
    for far in ["203.0.113.7:80", "[2001:db8::7]:80"] {
        assert_eq!(
            lab.app.ask(&format!("connect {far}")),
            "error: ConnectionRefused"
        );
    }
}

#[test]
fn the_node_itself_reaches_the_application() {
    let mut lab = Lab::new();
    let mut options = lab.options();
    options.node_addresses = vec![ip(PEER4)];
    let datapath = Arc::new(Datapath::open(&options).unwrap());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    let answer = lab.dial_from_peer(address(POD4, 8080));
    assert!(answer.starts_with("app accept="), "{answer}");
    let to = address(POD6, 8080);
    assert_eq!(lab.dial_from_peer(to), format!("plaintext {to} {PEER6}"));
    assert_eq!(count(&datapath, "pass_node"), 1);
}

/// Delivers as the agent does: announces the client, then connects from inside the pod.
fn deliver(datapath: &Datapath, pod: &Netns, to: SocketAddr, client: &str) -> String {
    let connect = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        datapath.announce_client(socket.as_fd(), client.parse().unwrap())?;
        socket.connect(&to.into())?;
        read_line(&mut socket.into())
    };
    pod.run(connect).unwrap().unwrap()
}

#[test]
fn the_application_sees_the_true_client() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve 0.0.0.0:8081"), "serving");
    assert_eq!(lab.app.ask("serve [::]:8082"), "serving");
    for (to, client, shown) in [
        (
            address(POD4, 8081),
            "198.51.100.9:4242",
            "198.51.100.9:4242",
        ),
        (
            address(POD4, 8082),
            "198.51.100.9:4243",
            "[::ffff:198.51.100.9]:4243",
        ),
        (
            address(POD6, 8082),
            "[2001:db8::9]:4244",
            "[2001:db8::9]:4244",
        ),
        (
            address("127.0.0.1", 8081),
            "198.51.100.9:4245",
            "198.51.100.9:4245",
        ),
    ] {
        let answer = deliver(&datapath, &lab.pod, to, client);
        assert_eq!(
            answer,
            format!("app accept={shown} peer={shown}"),
            "to {to}"
        );
    }
    assert_eq!(lab.app.accepted(), 4);
    // A client of the other family cannot be shown on an IPv4 socket: the true far end is.
    let answer = deliver(
        &datapath,
        &lab.pod,
        address(POD4, 8081),
        "[2001:db8::9]:4246",
    );
    assert!(
        answer.starts_with(&format!("app accept={POD4}:")),
        "{answer}"
    );
}

#[test]
fn a_delivered_connection_is_never_taken_for_a_captured_one() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let answer = deliver(
        &datapath,
        &lab.pod,
        address(POD4, 15001),
        "198.51.100.9:4242",
    );
    assert!(answer.starts_with("captured none "), "{answer}");
}

/// A SYN that claims to come from the pod itself.
fn spoofed_syn(source: IpAddr, to: SocketAddr) -> std::io::Result<()> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, to.ip()) else {
        panic!("IPv6 only: the kernel refuses such IPv4 packets by itself");
    };
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 2;
    tcp[14..16].copy_from_slice(&64_000_u16.to_be_bytes());
    let words = [source.octets(), destination.octets()].concat();
    let words = words.chunks(2).chain(tcp.chunks(2));
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum::<u32>()
        + 20
        + 6;
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(tcp);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255)))?;
    socket.send_to(&packet, &SocketAddr::new(destination.into(), 0).into())?;
    Ok(())
}

/// How many handshakes began at a listener of the pod, and failed.
fn failed_attempts(pod: &Netns) -> u64 {
    let statistics = pod.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"));
    let statistics = statistics.unwrap().unwrap();
    let tcp: Vec<&str> = statistics
        .lines()
        .filter(|line| line.starts_with("Tcp:"))
        .collect();
    let column = tcp[0]
        .split(' ')
        .position(|name| name == "AttemptFails")
        .unwrap();
    tcp[1].split(' ').nth(column).unwrap().parse().unwrap()
}

#[test]
fn the_pods_own_address_from_outside_is_dropped() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    // Resolves the neighbour, so that the SYN leaves at once.
    let to = address(POD6, 8080);
    assert_eq!(lab.dial_from_peer(to), format!("plaintext {to} {PEER6}"));
    let before = failed_attempts(&lab.pod);
    lab.peer.run(|| spoofed_syn(ip(POD6), to)).unwrap().unwrap();
    // Once for the SYN, and once for the RST that answers it to the pod itself.
    assert_eq!(count(&datapath, "drop_own_source"), 2);
    assert_eq!(
        failed_attempts(&lab.pod),
        before,
        "the SYN reached the application's listener"
    );
    assert_eq!(lab.app.accepted(), 0);
}
