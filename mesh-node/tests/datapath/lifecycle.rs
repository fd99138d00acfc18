//! Putting the data path in place, taking it over, and leaving nothing behind.

use mesh_node::bpf::{Datapath, DatapathError, Listeners, Need, probe, uninstall};
use mesh_node::sys::{Netns, interface_addresses};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use crate::lab::{Agent, Lab, PEER4, POD4, POD6, Server, address, ip};

#[test]
fn an_unenrolled_pod_is_as_before() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    let _server = Server::start(&lab.peer, address(PEER4, 80), |_| "direct".into());
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    assert_eq!(datapath.enrolled().unwrap(), [lab.pod.cookie()]);
    let answer = lab.app.connect(address(PEER4, 80));
    assert!(answer.contains(" captured "), "{answer}");
    for _ in 0..2 {
        datapath.unenroll(lab.pod.cookie()).unwrap();
        let answer = lab.app.connect(address(PEER4, 80));
        assert!(answer.ends_with(" direct"), "{answer}");
        assert!(
            lab.dial_from_peer(address(POD4, 8080))
                .starts_with("app accept=")
        );
        assert!(
            lab.dial_from_peer(address(POD6, 8080))
                .starts_with("app accept=")
        );
    }
    assert!(datapath.enrolled().unwrap().is_empty());
    let pods = lab.bpffs().join("v3/pods");
    assert_eq!(fs::read_dir(pods).unwrap().count(), 0, "a link is left");
    // And again, twice: enrolling is idempotent.
    for _ in 0..2 {
        agent.enroll(&datapath, &lab.pod, &Lab::addresses());
        let answer = lab.app.connect(address(PEER4, 80));
        assert!(answer.contains(" captured "), "{answer}");
    }
}

#[test]
fn capture_outlives_the_agent_and_the_next_one_takes_over() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    let _server = Server::start(&lab.peer, address(PEER4, 80), |_| "plaintext leaked".into());
    assert_eq!(lab.app.ask("serve [::]:8080"), "serving");
    let links = || {
        let directory = lab.bpffs().join("v3/links");
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = links();
    assert_eq!(before.len(), 5);
    drop(agent);
    drop(datapath);
    // No agent: refused both ways, never plaintext.
    assert_eq!(
        lab.app.connect(address(PEER4, 80)),
        "error: ConnectionRefused"
    );
    assert_eq!(
        lab.dial_from_peer(address(POD4, 8080)),
        "error: ConnectionRefused"
    );
    // The next agent has another cgroup and other options.
    lab.enter_agent_subgroup();
    let mut options = lab.options();
    options.exclude_ports = vec![80];
    let datapath = Arc::new(Datapath::open(&options).unwrap());
    assert_eq!(datapath.enrolled().unwrap(), [lab.pod.cookie()]);
    let directory = lab.bpffs().join("v3/links");
    assert_eq!(fs::read_dir(directory).unwrap().count(), before.len());
    let _agent = lab.enroll(&datapath);
    let answer = lab.app.connect(address(PEER4, 80));
    assert!(
        answer.ends_with(" plaintext leaked"),
        "port 80 is excluded now: {answer}"
    );
    let answer = lab.app.connect(address(PEER4, 9999));
    assert!(
        answer.contains(" captured 10.203.0.1:9999"),
        "9999 no longer is: {answer}"
    );
    let to = address(POD4, 8080);
    assert_eq!(lab.dial_from_peer(to), format!("plaintext {to} {PEER4}"));
    assert_eq!(lab.app.accepted(), 0);
}

#[test]
fn a_pod_that_ended_meanwhile_is_forgotten() {
    let lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    // A second pod whose namespace ends with its last descriptor.
    let second = lab.short_lived_netns();
    let cookie = second.cookie();
    {
        let agent = Agent::start(&second, &datapath);
        agent.enroll(&datapath, &second, &[ip("10.204.0.2")]);
    }
    assert_eq!(datapath.enrolled().unwrap().len(), 2);
    drop((agent, datapath, second));
    lab.wait_until(|| {
        let datapath = lab.open();
        !datapath.enrolled().unwrap().contains(&cookie)
    });
    assert_eq!(lab.open().enrolled().unwrap(), [lab.pod.cookie()]);
}

#[test]
fn uninstalling_leaves_nothing() {
    let mut lab = Lab::new();
    let datapath = Arc::new(lab.open());
    let agent = lab.enroll(&datapath);
    let _server = Server::start(&lab.peer, address(PEER4, 80), |_| "direct".into());
    drop((agent, datapath));
    uninstall(&lab.bpffs()).unwrap();
    assert!(!lab.bpffs().exists());
    assert!(lab.app.connect(address(PEER4, 80)).ends_with(" direct"));
    uninstall(&lab.bpffs()).unwrap();
}

#[test]
fn unfit_places_are_named() {
    let lab = Lab::new();
    let open = |change: &dyn Fn(&mut mesh_node::bpf::DatapathOptions)| {
        let mut options = lab.options();
        change(&mut options);
        Datapath::open(&options).unwrap_err()
    };
    let error = open(&|o| o.bpffs = std::env::temp_dir().join("weft"));
    assert!(matches!(error, DatapathError::NotBpffs(_)), "{error}");
    let error = open(&|o| o.cgroup = "/proc/self".into());
    assert!(matches!(error, DatapathError::Cgroup(..)), "{error}");
    // The agent among its applications, and the agent elsewhere.
    let error = open(&|o| o.cgroup = o.cgroup.join("agent"));
    assert!(matches!(error, DatapathError::AgentCgroup(_)), "{error}");
    let error = open(&|o| o.cgroup = o.cgroup.join("pod"));
    assert!(matches!(error, DatapathError::AgentCgroup(_)), "{error}");
}

#[test]
fn a_full_table_is_named_and_leaves_no_half_pod() {
    let mut lab = Lab::new();
    let mut options = lab.options();
    options.max_pods = 1;
    let datapath = Arc::new(Datapath::open(&options).unwrap());
    let agent = Agent::start(&lab.pod, &datapath);
    // The first listener finds its place, the second is no socket: both must be out again.
    let no_socket = File::open("/dev/null").unwrap();
    let listeners = Listeners {
        hbone: no_socket.as_fd(),
        ..agent.listeners()
    };
    let error = datapath
        .enroll(&lab.peer, &[ip(PEER4)], &listeners)
        .unwrap_err();
    assert!(matches!(error, DatapathError::Map(..)), "{error}");
    assert!(datapath.enrolled().unwrap().is_empty());
    agent.enroll(&datapath, &lab.pod, &Lab::addresses());
    let error = datapath
        .enroll(&lab.peer, &[ip(PEER4)], &agent.listeners())
        .unwrap_err();
    assert!(matches!(error, DatapathError::Full(_, 2)), "{error}");
    assert_eq!(datapath.enrolled().unwrap(), [lab.pod.cookie()]);
    assert!(lab.app.connect(address(PEER4, 80)).contains(" captured "));
}

#[test]
fn this_kernel_has_what_is_needed() {
    let probe = probe();
    assert_eq!(probe.missing(Need::Always), Vec::<String>::new());
    assert!(
        probe
            .to_string()
            .lines()
            .all(|line| line.starts_with("yes")),
        "{probe}"
    );
}

#[test]
fn namespaces_are_entered_and_left() {
    let lab = Lab::new();
    let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let home = here();
    assert_ne!(lab.pod.run(here).unwrap(), home);
    assert_eq!(here(), home);
    let panicked = std::panic::catch_unwind(|| lab.pod.run(|| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(here(), home, "a panic left the thread in the pod");
    assert_ne!(lab.pod.cookie(), lab.peer.cookie());
    assert_eq!(interface_addresses(&lab.pod).unwrap(), Lab::addresses());
    assert!(Netns::open(Path::new("/proc/self/status")).is_err());
}
