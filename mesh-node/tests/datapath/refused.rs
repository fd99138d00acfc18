//! What the kernel refuses by itself: which connections, in whose name, and what outlives what.

use mesh_node::bpf::{Datapath, DatapathError, RefusedConnections, RefusedPorts};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::lab::{Lab, PEER4, PEER6, POD4, POD6, address, dial, ip};

const REFUSED: &str = "error: ConnectionRefused";
/// A port that is excepted in these tests.
const OPEN: u16 = 8080;

fn policy(name: &str) -> Option<Arc<str>> {
    Some(name.into())
}

/// Everything but these, by `policy`.
fn all_but(name: &str, open: &[u16]) -> RefusedPorts {
    RefusedPorts {
        others: policy(name),
        exceptions: open.iter().map(|port| (*port, None)).collect(),
    }
}

/// Nothing but these, by `policy`.
fn only(name: &str, closed: &[u16]) -> RefusedPorts {
    RefusedPorts {
        others: None,
        exceptions: closed.iter().map(|port| (*port, policy(name))).collect(),
    }
}

/// What was refused since the last time, by policy.
fn taken(datapath: &Datapath) -> BTreeMap<String, u64> {
    let named = |refused: &RefusedConnections| {
        let policy = refused.policy.as_deref().unwrap_or("unknown");
        (policy.to_owned(), refused.count)
    };
    datapath.take_refused().unwrap().iter().map(named).collect()
}

fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let owned = counts.iter().map(|(policy, n)| ((*policy).to_owned(), *n));
    owned.collect()
}

fn steered(datapath: &Datapath) -> u64 {
    let counters = datapath.counters().unwrap();
    let found = counters
        .iter()
        .find(|(_, reason, _)| *reason == "redirect_plaintext");
    found.unwrap().2
}

#[test]
fn connections_are_refused_by_port_and_counted_by_policy() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let cookie = lab.pod.cookie();
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    let answer = |pod: &str, port| lab.dial_from_peer(address(pod, port));
    let passes = |pod: &str, peer: &str, port| {
        let to = address(pod, port);
        assert_eq!(answer(pod, port), format!("plaintext {to} {peer}"));
    };
    let mut ports = all_but("shop/strict", &[OPEN]);
    ports.exceptions.insert(9090, policy("shop/admin"));
    assert!(datapath.refuse(cookie, &ports).unwrap());
    for (pod, peer) in [(POD4, PEER4), (POD6, PEER6)] {
        for port in [80, 4444, 9090, 15001, 15006] {
            assert_eq!(answer(pod, port), REFUSED, "{pod} {port}");
        }
        passes(pod, peer, OPEN);
        // Tunnels are none of this.
        let to = address(pod, 15008);
        assert_eq!(answer(pod, 15008), format!("hbone {to} {peer}"));
    }
    assert_eq!(steered(&datapath), 2);
    let counts = expected(&[("shop/strict", 8), ("shop/admin", 2)]);
    assert_eq!(taken(&datapath), counts);
    assert_eq!(taken(&datapath), expected(&[]));

    assert!(
        datapath
            .refuse(cookie, &only("shop/strict", &[80]))
            .unwrap()
    );
    for (pod, peer) in [(POD4, PEER4), (POD6, PEER6)] {
        assert_eq!(answer(pod, 80), REFUSED);
        for port in [OPEN, 9090, 4444] {
            passes(pod, peer, port);
        }
        let refused = datapath.take_refused().unwrap();
        let last = refused[0].last.unwrap();
        assert_eq!((last.source.ip(), last.port), (ip(peer), 80));
        assert_eq!((refused.len(), refused[0].netns), (1, cookie));
    }
    assert!(datapath.refuse(cookie, &RefusedPorts::default()).unwrap());
    passes(POD4, PEER4, 80);
    assert_eq!(taken(&datapath), expected(&[]));
    assert_eq!(lab.app.accepted(), 0);
}

#[test]
fn probes_and_the_pod_itself_are_not_refused() {
    let mut lab = Lab::new();
    let mut options = lab.options();
    options.node_addresses = vec![ip(PEER4)];
    let datapath = Arc::new(Datapath::open(&options).unwrap());
    let _agent = lab.enroll(&datapath);
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    let cookie = lab.pod.cookie();
    assert!(datapath.refuse(cookie, &all_but("x/strict", &[])).unwrap());
    let answer = lab.dial_from_peer(address(POD4, OPEN));
    assert!(answer.starts_with("app accept="), "{answer}");
    for own in [POD4, POD6, "127.0.0.1", "::1"] {
        let answer = lab.app.connect(address(own, OPEN));
        assert!(answer.contains("app accept="), "{own}: {answer}");
    }
    assert_eq!(lab.dial_from_peer(address(POD6, OPEN)), REFUSED);
    assert_eq!(taken(&datapath), expected(&[("x/strict", 1)]));
}

#[test]
fn it_outlives_the_agent_and_the_next_one_counts_on() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    let cookie = lab.pod.cookie();
    let ports = all_but("shop/strict", &[OPEN]);
    assert!(datapath.refuse(cookie, &ports).unwrap());
    let dial = |port| lab.dial_from_peer(address(POD4, port));
    assert_eq!(dial(80), REFUSED);
    assert_eq!(taken(&datapath), expected(&[("shop/strict", 1)]));
    assert_eq!(dial(80), REFUSED);
    drop(agent);
    drop(datapath);
    assert_eq!(dial(80), REFUSED);

    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    assert_eq!(dial(80), REFUSED, "before the next agent has said anything");
    assert!(dial(OPEN).starts_with("plaintext "));
    // It has the same policy, under which the slot is known again; what was taken is not taken twice.
    assert!(datapath.refuse(cookie, &ports).unwrap());
    assert_eq!(dial(80), REFUSED);
    assert_eq!(taken(&datapath), expected(&[("shop/strict", 4)]));

    // One that has another policy cannot name what was counted for the first.
    assert_eq!(dial(80), REFUSED);
    drop(agent);
    drop(datapath);
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let ports = all_but("shop/other", &[OPEN]);
    assert!(datapath.refuse(cookie, &ports).unwrap());
    assert_eq!(dial(80), REFUSED);
    let counts = expected(&[("unknown", 1), ("shop/other", 1)]);
    assert_eq!(taken(&datapath), counts);

    datapath.refuse_none().unwrap();
    assert!(dial(80).starts_with("plaintext "));
}

#[test]
fn an_unenrolled_pod_leaves_nothing_but_its_last_count() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    let cookie = lab.pod.cookie();
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    let ports = all_but("shop/strict", &[]);
    assert!(datapath.refuse(cookie, &ports).unwrap());
    assert_eq!(lab.dial_from_peer(address(POD4, OPEN)), REFUSED);
    datapath.unenroll(cookie).unwrap();
    let answer = lab.dial_from_peer(address(POD4, OPEN));
    assert!(answer.starts_with("app accept="), "{answer}");
    assert_eq!(taken(&datapath), expected(&[("shop/strict", 1)]));
    assert!(!datapath.refuse(cookie, &ports).unwrap());
    // It comes back, and is judged by the agent until something is said again.
    agent.enroll(&datapath, &lab.pod, &Lab::addresses());
    assert!(
        lab.dial_from_peer(address(POD4, OPEN))
            .starts_with("plaintext ")
    );
    assert!(datapath.refuse(cookie, &ports).unwrap());
    assert_eq!(lab.dial_from_peer(address(POD4, OPEN)), REFUSED);
    assert_eq!(taken(&datapath), expected(&[("shop/strict", 1)]));
}

#[test]
fn what_does_not_fit_is_the_agents_to_judge() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let cookie = lab.pod.cookie();
    assert!(datapath.refuse(cookie, &all_but("a/b", &[])).unwrap());
    assert_eq!(lab.dial_from_peer(address(POD4, 80)), REFUSED);
    let many: Vec<u16> = (1000..1065).collect();
    let full = datapath.refuse(cookie, &all_but("a/b", &many));
    assert!(matches!(full, Err(DatapathError::Full(..))), "{full:?}");
    let answer = lab.dial_from_peer(address(POD4, 80));
    assert!(answer.starts_with("plaintext "), "{answer}");
    // More policies than there are slots (64 for 16 pods): none is kept.
    let by_port = (0..64).map(|n| (1000 + n, policy(&format!("shop/{n}"))));
    let mut ports = RefusedPorts {
        others: policy("shop/others"),
        exceptions: by_port.collect(),
    };
    let full = datapath.refuse(cookie, &ports);
    assert!(matches!(full, Err(DatapathError::Full(..))), "{full:?}");
    assert!(
        lab.dial_from_peer(address(POD4, 1000))
            .starts_with("plaintext ")
    );
    // One less fits, so none was lost.
    ports.others = None;
    assert!(datapath.refuse(cookie, &ports).unwrap());
    assert_eq!(lab.dial_from_peer(address(POD4, 1063)), REFUSED);
    let counts = expected(&[("a/b", 1), ("shop/63", 1)]);
    assert_eq!(taken(&datapath), counts);
}

#[test]
fn a_change_never_touches_what_is_the_same_before_and_after() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let _agent = lab.enroll(&datapath);
    let cookie = lab.pod.cookie();
    // 80 is refused in all of these, and 8080 in none.
    let states = [
        all_but("a/one", &[OPEN]),
        only("a/two", &[80, 443]),
        all_but("a/two", &[OPEN, 443]),
        only("a/one", &[80]),
    ];
    assert!(datapath.refuse(cookie, &states[0]).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let dialling: Vec<_> = [(80_u16, true), (OPEN, false)]
        .into_iter()
        .map(|(port, refused)| {
            let (stop, to) = (stop.clone(), address(POD4, port));
            let peer = lab.peer.clone();
            thread::spawn(move || {
                let mut dials = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = peer.run(|| dial(to)).unwrap();
                    assert_eq!(answer == REFUSED, refused, "port {port}: {answer}");
                    dials += 1;
                }
                dials
            })
        })
        .collect();
    for n in 0..2000 {
        assert!(datapath.refuse(cookie, &states[n % states.len()]).unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    for thread in dialling {
        assert!(thread.join().unwrap() > 0);
    }
}
