//! `--same-node direct`: pods of one node reach each other without a tunnel where policy allows it, and
//! nowhere else.

use anyhow::{Context as _, Result, ensure};
use lab::access_log::{Entry, Mark};
use lab::agent::Agent;
use lab::capture::Capture;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::{Pod, netns, shell, wait};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const DIRECT: &[(&str, &str)] = &[("same-node", "direct")];
/// Exemptions hold for this long without an agent.
const LEASE: Duration = Duration::from_secs(3);
const NO_CLIENT: &str =
    "action: DENY\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/client]}\n";

/// A mesh of so many nodes with `shop/client` and `shop/server` on the first.
fn neighbours(nodes: u8, mode: &str, options: &[(&str, &str)]) -> Result<(Mesh, Pod, Pod)> {
    let mut mesh = Mesh::with_options(nodes, None, options)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.peer_authentication("shop", mode)?;
    let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
    let server = mesh.add_enrolled(&PodSpec::named(1, "shop", "server"))?;
    Ok((mesh, client, server))
}

fn works(client: &Pod, server: SocketAddr) -> bool {
    peer::client(client, server, &["many", "1", "1000"], LIMIT).is_ok_and(|line| line == "echoed 1")
}

/// How often the programs have let a connect pass without a tunnel.
fn exempted(agent: &Agent) -> Result<u64> {
    let labels = ["program=\"connect\"", "reason=\"pass_direct\""];
    let count = agent.sample("weft_steering_decisions", &labels)?;
    count.context("no counter of exempted connects")
}

fn exemptions(agent: &Agent) -> Result<u64> {
    let gauge = agent.sample("weft_same_node_exemptions", &[])?;
    gauge.context("no gauge of exemptions")
}

/// Connects until the destination is exempted, and once more: that one goes direct.
fn go_direct(agent: &Agent, client: &Pod, server: SocketAddr) -> Result<()> {
    let what = format!("{} to reach {server} without a tunnel", client.key());
    wait::until_true(&what, wait::DEADLINE, || {
        let before = exempted(agent)?;
        ensure!(works(client, server), "{server} does not answer");
        Ok(exempted(agent)? > before)
    })
}

/// Says something to an echo server over a new connection.
fn say(client: &Pod, server: SocketAddr, what: &str) -> Result<()> {
    let to = server.to_string();
    let own = client.v4.to_string();
    let role = ["escape", &to, "--way", "mark", "--own", &own, "--say", what];
    let heard = peer::play(client, &role)?;
    ensure!(heard == format!("heard {what}"), "{heard}");
    Ok(())
}

fn log(agent: &Agent, mark: Mark, what: &str, fits: impl Fn(&Entry) -> bool) -> Result<Entry> {
    agent.access_log().wait(mark, what, fits)
}

#[test]
fn an_allowed_connection_takes_the_pods_own_link() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let agent = mesh.agent(1)?;
    for (ip, way) in server.addresses().into_iter().zip(["four", "six"]) {
        let echo = Server::start(&server, ip, 7001, &["echo"])?;
        let mut link = Capture::pod(&mesh.lab, &client)?;
        let first = format!("through-the-tunnel-{way}");
        say(&client, echo.address, &first)?;
        let trace = link.trace()?;
        assert!(
            !trace.contains(first.as_bytes()),
            "the first one was in clear"
        );
        assert!(trace.packets_on_port(15008) > 0);
        wait::until_true("the exemption", wait::DEADLINE, || {
            Ok(exemptions(agent)? > 0)
        })?;
        go_direct(agent, &client, echo.address)?;
        link.stop()?;
        let mut link = Capture::pod(&mesh.lab, &client)?;
        let mark = agent.access_log().mark();
        let second = format!("over-the-own-link-{way}");
        say(&client, echo.address, &second)?;
        let trace = link.trace()?;
        let streams: Vec<_> = trace.flows().map(|flow| flow.destination_port).collect();
        assert!(
            trace.contains(second.as_bytes()),
            "{way} is not on the pod's link: {streams:?}"
        );
        let streams: Vec<_> = trace.flows().map(|flow| flow.destination_port).collect();
        assert!(
            streams.contains(&7001) && !streams.contains(&15008),
            "{streams:?}"
        );

        let text = second.len() as u64;
        for direction in ["outbound", "inbound"] {
            let line = log(agent, mark, "the direct connection", |e| {
                let of_it = e.direction == direction && e.is_direct();
                of_it && (e.bytes_sent, e.bytes_recv) == (text, text)
            })?;
            assert!(line.is_between("client", "server"), "{line:?}");
            let identity = |name: &str| Some(format!("spiffe://cluster.local/ns/shop/sa/{name}"));
            assert_eq!(line.src_identity, identity("client"));
            assert_eq!(line.dst_identity, identity("server"));
            assert_eq!(line.dst_addr, Some(echo.address.to_string()));
            assert_eq!(line.dst_hbone_addr, None);
            assert_eq!(line.response_flags.as_deref(), Some("-"));
            assert_eq!(line.error, None);
            let decided = (direction == "inbound").then_some("allow");
            assert_eq!(line.verdict.as_deref(), decided);
        }
        link.stop()?;
        // Each family is exempted for itself.
        agent.unenroll(&client)?;
        agent.enroll(&client)?;
    }
    Ok(())
}

#[test]
fn every_way_to_connect_works_without_a_tunnel() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let agent = mesh.agent(1)?;
    let plain = [
        "mark",
        "device",
        "after-local",
        "reconnect",
        "fast-open",
        "multipath",
        "bound",
    ];
    for (ip, own) in server.addresses().into_iter().zip(client.addresses()) {
        let echo = Server::start(&server, ip, 7001, &["echo"])?;
        go_direct(agent, &client, echo.address)?;
        let mapped = ip.is_ipv4().then_some("mapped");
        for way in plain.into_iter().chain(mapped) {
            let (mark, before) = (agent.access_log().mark(), exempted(agent)?);
            let (to, own) = (echo.address.to_string(), own.to_string());
            let say = format!("said-{way}");
            let role = ["escape", &to, "--way", way, "--own", &own, "--say", &say];
            let heard = peer::play(&client, &role).with_context(|| way.to_owned())?;
            assert_eq!(heard, format!("heard {say}"));
            assert!(exempted(agent)? > before, "{way} took the tunnel");
            for direction in ["outbound", "inbound"] {
                let said = say.len() as u64;
                log(agent, mark, way, |e| {
                    let of_it = e.is_direct() && e.direction == direction;
                    of_it && (e.bytes_sent, e.bytes_recv) == (said, said)
                })?;
            }
        }
        wait::until_true("all to have ended", wait::DEADLINE, || {
            Ok(agent.sample("weft_same_node_connections", &[])? == Some(0))
        })?;
    }
    // One that was bound to an address that is not the pod's is not exempted.
    let foreign = Ipv4Addr::new(10, 88, 1, 200);
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let device = netns::within(client.place.netns(), || {
        shell::run(&[
            "ip",
            "address",
            "add",
            &format!("{foreign}/32"),
            "dev",
            "eth0",
        ])
    });
    device??;
    let before = exempted(agent)?;
    let (to, own) = (echo.address.to_string(), foreign.to_string());
    let role = ["escape", &to, "--way", "bound", "--own", &own, "--say", "x"];
    assert_eq!(peer::play(&client, &role)?, "heard x");
    assert_eq!(exempted(agent)?, before);
    Ok(())
}

#[test]
fn it_is_off_unless_asked_for() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", &[])?;
    let agent = mesh.agent(1)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let mut link = Capture::pod(&mesh.lab, &client)?;
    for n in 0..20 {
        let needle = format!("by-default-{n}");
        say(&client, echo.address, &needle)?;
        assert!(!link.trace()?.contains(needle.as_bytes()), "connection {n}");
    }
    assert_eq!((exempted(agent)?, exemptions(agent)?), (0, 0));
    assert_eq!(link.stop()?.packets_on_port(7001), 0);
    Ok(())
}

#[test]
fn a_policy_change_reaches_live_and_new_connections_and_only_those_it_denies() -> Result<()> {
    let _one = serial();
    // PERMISSIVE: what is no longer exempted must not pass as plaintext either.
    let (mut mesh, client, server) = neighbours(1, "PERMISSIVE", DIRECT)?;
    let other = mesh.add_enrolled(&PodSpec::named(1, "shop", "other"))?;
    let agent = mesh.agent(1)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let watch = Server::start(&server, server.v4.into(), 7002, &["watch"])?;
    let mut live = Vec::new();
    for pod in [&client, &other] {
        for to in [&echo, &watch] {
            peer::client(pod, to.address, &["reset", "0"], LIMIT)
                .or_else(|_| peer::client(pod, to.address, &["watch", "0"], LIMIT))
                .ok();
        }
        go_direct(agent, pod, echo.address)?;
    }
    wait::until_true("four exemptions", wait::DEADLINE, || {
        Ok(exemptions(agent)? == 4)
    })?;
    for pod in [&client, &other] {
        let before = exempted(agent)?;
        let mut idle = Client::start(pod, watch.address, &["idle"])?;
        idle.wait_for("connected")?;
        assert!(exempted(agent)? > before, "{} is not direct", pod.key());
        live.push(idle);
    }
    let open = |n| Ok(agent.sample("weft_same_node_connections", &[])? == Some(n));
    wait::until_true("two live connections", wait::DEADLINE, || open(2))?;

    let mark = agent.access_log().mark();
    mesh.add_policy("shop", "no-client", NO_CLIENT)?;
    live[0].wait_for("0 reset")?;
    wait::until_true("one live connection", wait::DEADLINE, || open(1))?;
    let line = log(agent, mark, "the one that was cut", |e| {
        e.is_direct() && e.is_denied()
    })?;
    assert!(line.is_between("client", "server"), "{line:?}");
    assert_eq!(line.policy.as_deref(), Some("shop/no-client"));
    assert_eq!(line.response_flags.as_deref(), Some("DENY"));
    for _ in 0..20 {
        assert!(!works(&client, echo.address), "denied, and yet it works");
    }
    assert_eq!(exemptions(agent)?, 2);
    // The other one never noticed.
    assert!(!live[1].output().contains("reset"));
    let before = exempted(agent)?;
    assert!(works(&other, echo.address));
    assert!(exempted(agent)? > before);
    mesh.remove_policy("shop", "no-client")?;
    go_direct(agent, &client, echo.address)
}

/// Connections that are held, and replaced as soon as they end, while policy changes: none is there once the
/// agent knows, and none comes.
#[test]
fn no_connection_slips_through_a_change() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "PERMISSIVE", DIRECT)?;
    let agent = mesh.agent(1)?;
    let watch = Server::start(&server, server.v4.into(), 7001, &["watch"])?;
    let own = IpAddr::from(client.v4);
    let inside = || established(&server, own, watch.address.port());
    for round in 0..5 {
        wait::until_true("an exemption", wait::DEADLINE, || {
            let before = exempted(agent)?;
            let end = peer::client(&client, watch.address, &["reset", "0"], LIMIT);
            Ok(end.is_ok() && exempted(agent)? > before)
        })?;
        // Fewer than wait for accept() at most: each is established on both sides.
        let to = watch.address.to_string();
        let mut crowd = Client::play(&client, &["crowd", &to, "100"])?;
        crowd.wait_for("all there")?;
        wait::until_true("100 connections", wait::DEADLINE, || {
            Ok(agent.sample("weft_same_node_connections", &[])? == Some(100))
        })?;
        let policy = format!("no-client-{round}");
        mesh.add_policy("shop", &policy, NO_CLIENT)?;
        wait::until_true("all to be cut", wait::DEADLINE, || Ok(inside()? == 0))?;
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            assert_eq!(inside()?, 0, "round {round}: the crowd is in again");
        }
        drop(crowd);
        mesh.remove_policy("shop", &policy)?;
        wait::until_true("none to be listed", wait::DEADLINE, || {
            Ok(agent.sample("weft_same_node_connections", &[])? == Some(0))
        })?;
    }
    assert_eq!(agent.decisions("event_lost")?, 0);
    Ok(())
}

/// Connections of the pod's own applications at `port`, from `client`.
fn established(pod: &Pod, client: IpAddr, port: u16) -> Result<usize> {
    let filter = format!("sport = :{port} and dst = {client}");
    let found = netns::within(pod.place.netns(), || {
        shell::run(&["ss", "-Htnp", "state", "established", &filter])
    })??;
    // What the agent accepted in the pod, to refuse it, is none of the application's.
    Ok(found
        .lines()
        .filter(|line| !line.contains("mesh-node"))
        .count())
}

#[test]
fn only_known_pods_of_the_node_are_reached_without_a_tunnel() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = neighbours(2, "PERMISSIVE", DIRECT)?;
    let vip = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
    mesh.add_service("shop", "server", "server", &[vip], 7001)?;
    // Not enrolled, out of the mesh, on another node, and behind a service's address.
    let bare = mesh.add_pod(&PodSpec::named(1, "shop", "bare"))?;
    mesh.config.namespace("outside", false)?;
    let outside = mesh.add_enrolled(&PodSpec::named(1, "outside", "outside"))?;
    let remote = mesh.add_enrolled(&PodSpec::named(2, "shop", "remote"))?;
    let agent = mesh.agent(1)?;
    let mut held = Vec::new();
    for pod in [&bare, &outside, &remote, &server] {
        held.push(Server::start(pod, pod.v4.into(), 7001, &["echo"])?);
    }
    let service = SocketAddr::new(vip, 7001);
    for to in [held[1].address, held[2].address, service] {
        for n in 0..10 {
            assert!(works(&client, to), "{to}, connection {n}");
        }
    }
    // The controller says that this one takes tunnels, and it does not.
    for _ in 0..3 {
        assert!(!works(&client, held[0].address));
    }
    assert_eq!((exempted(agent)?, exemptions(agent)?), (0, 0));
    go_direct(agent, &client, held[3].address)
}

#[test]
fn without_the_agent_nothing_new_is_direct_and_its_successor_judges_what_is_open() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let watch = Server::start(&server, server.v4.into(), 7002, &["watch"])?;
    go_direct(mesh.agent(1)?, &client, echo.address)?;
    let hold = |mesh: &Mesh| -> Result<Client> {
        // The first one is the tunnel's.
        let direct = |idle: &mut Client| -> Result<bool> {
            idle.wait_for("connected")?;
            Ok(mesh.agent(1)?.sample("weft_same_node_connections", &[])? == Some(1))
        };
        wait::until("a direct connection", wait::DEADLINE, || {
            let mut idle = Client::start(&client, watch.address, &["idle"])?;
            std::thread::sleep(Duration::from_millis(50));
            Ok(direct(&mut idle)?.then_some(idle))
        })
    };
    let mut idle = hold(&mesh)?;
    mesh.agent_mut(1)?.kill()?;
    let dead = Instant::now();
    wait::until_true("connects to be refused", LEASE * 2, || {
        Ok(!works(&client, echo.address))
    })?;
    assert!(dead.elapsed() < LEASE * 2);
    let mut link = Capture::pod(&mesh.lab, &client)?;
    for _ in 0..20 {
        assert!(!works(&client, echo.address), "direct, without an agent");
    }
    assert_eq!(link.trace()?.packets_on_port(7001), 0);
    assert!(!idle.output().contains("reset"), "{}", idle.output());

    // The successor takes up what is open.
    mesh.agent_mut(1)?.restart()?;
    let open =
        |mesh: &Mesh, n| Ok(mesh.agent(1)?.sample("weft_same_node_connections", &[])? == Some(n));
    wait::until_true("the open one to be known", wait::DEADLINE, || {
        open(&mesh, 1)
    })?;
    go_direct(mesh.agent(1)?, &client, echo.address)?;
    mesh.add_policy("shop", "no-client", NO_CLIENT)?;
    idle.wait_for("0 reset")?;
    mesh.remove_policy("shop", "no-client")?;

    // A successor that does without cuts it.
    go_direct(mesh.agent(1)?, &client, echo.address)?;
    let mut idle = hold(&mesh)?;
    mesh.agent_mut(1)?.kill()?;
    mesh.agent_mut(1)?.set_option("same-node", "tunnel")?;
    mesh.agent_mut(1)?.restart()?;
    idle.wait_for("0 reset")?;
    let before = exempted(mesh.agent(1)?)?;
    for _ in 0..10 {
        assert!(works(&client, echo.address));
    }
    assert_eq!(exempted(mesh.agent(1)?)?, before);
    Ok(())
}

#[test]
fn an_agent_that_ends_leaves_no_connection_that_nobody_watches() -> Result<()> {
    let _one = serial();
    let options = [DIRECT, &[("drain-deadline", "2s")]].concat();
    let (mut mesh, client, server) = neighbours(1, "STRICT", &options)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let agent = mesh.agent(1)?;
    go_direct(agent, &client, echo.address)?;
    let mut idle = Client::start(&client, echo.address, &["idle"])?;
    idle.wait_for("connected")?;
    let mark = agent.access_log().mark();
    mesh.agent_mut(1)?.stop(LIMIT)?;
    idle.wait_for("0 reset")?;
    log(mesh.agent(1)?, mark, "the one that was cut", |e| {
        e.is_direct() && e.error.as_deref() == Some("closed at the drain deadline")
    })?;
    assert!(!works(&client, echo.address));
    Ok(())
}

#[test]
fn unenrolling_either_pod_ends_its_exemptions() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let agent = mesh.agent(1)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    for leaving in [&client, &server] {
        go_direct(agent, &client, echo.address)?;
        let mut idle = Client::start(&client, echo.address, &["idle"])?;
        idle.wait_for("connected")?;
        agent.unenroll(leaving)?;
        let before = exempted(agent)?;
        // Denied (STRICT), or no tunnel is taken there: never exempted.
        works(&client, echo.address);
        assert_eq!(exempted(agent)?, before, "{} left", leaving.key());
        wait::until_true("no exemption", wait::DEADLINE, || {
            Ok(exemptions(agent)? == 0)
        })?;
        // What is open runs on, under policy as before.
        assert!(!idle.output().contains("reset"));
        mesh.add_policy("shop", "no-client", NO_CLIENT)?;
        idle.wait_for("0 reset")?;
        mesh.remove_policy("shop", "no-client")?;
        agent.enroll(leaving)?;
    }
    go_direct(agent, &client, echo.address)
}

#[test]
fn bytes_ends_and_refusals_are_told_as_they_were() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let agent = mesh.agent(1)?;
    let (v4, v6): (IpAddr, IpAddr) = (server.v4.into(), server.v6.into());
    let servers = [
        Server::start(&server, v4, 7001, &["check", "5"])?,
        Server::start(&server, v6, 7002, &["source", "3000000", "6"])?,
        Server::start(&server, v4, 7003, &["close-first", "2000000", "7"])?,
        Server::start(&server, v6, 7004, &["reset-after", "5"])?,
    ];
    // What each behaves like, and the bytes up and down that its lines must have.
    let seen = |server: &Server, behaviour: &[&str]| -> Result<(Entry, Entry, String)> {
        let mut line = String::new();
        let mut ends = None;
        wait::until_true("a direct connection", wait::DEADLINE, || {
            let (mark, before) = (agent.access_log().mark(), exempted(agent)?);
            line = peer::client(&client, server.address, behaviour, LIMIT)?;
            if exempted(agent)? == before {
                return Ok(false);
            }
            let end = |direction: &'static str| {
                let of_it = move |e: &Entry| e.is_direct() && e.direction == direction;
                log(agent, mark, "the direct connection", of_it)
            };
            ends = Some((end("outbound")?, end("inbound")?));
            Ok(true)
        })?;
        let (client, server) = ends.context("no lines")?;
        Ok((client, server, line))
    };
    let expect = |(source, destination, _): &(Entry, Entry, String), up: u64, down: u64| {
        assert_eq!((source.bytes_sent, source.bytes_recv), (up, down));
        assert_eq!((destination.bytes_recv, destination.bytes_sent), (up, down));
        assert_eq!(source.src_addr, destination.src_addr);
    };
    let sent = seen(&servers[0], &["send", "5000000", "5"])?;
    assert_eq!(sent.2, "answer 5000000");
    expect(&sent, 5_000_000, "5000000\n".len() as u64);
    let received = seen(&servers[1], &["receive", "3000000", "6"])?;
    expect(&received, 0, 3_000_000);
    let half = seen(&servers[2], &["send-after-eof", "2000000", "7"])?;
    expect(&half, 2_000_000, "closing\n".len() as u64);
    for (source, destination, _) in [&sent, &received, &half] {
        assert_eq!((&source.error, &destination.error), (&None, &None));
    }
    let reset = seen(&servers[3], &["watch", "5"])?;
    assert_eq!(reset.2, "0 reset");
    expect(&reset, 5, 0);
    assert_eq!(reset.0.error.as_deref(), Some("the connection was reset"));

    let labels = [
        "reporter=\"destination\"",
        "source_workload=\"client\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "connection_security_policy=\"none\"",
        "response_flags=\"-\"",
    ];
    let metric = |name: &str| agent.sample(name, &labels);
    assert_eq!(metric("istio_tcp_connections_opened_total")?, Some(4));
    assert_eq!(metric("istio_tcp_connections_closed_total")?, Some(4));
    assert_eq!(metric("istio_tcp_received_bytes_total")?, Some(7_000_005));
    assert_eq!(metric("istio_tcp_sent_bytes_total")?, Some(3_000_016));

    // Nobody listens any more: refused, told, and then the tunnel's to find out.
    let gone = servers[0].address;
    let mark = agent.access_log().mark();
    drop(servers);
    assert!(
        peer::client(&client, gone, &["watch", "0"], LIMIT).is_err(),
        "refused at once"
    );
    let line = log(agent, mark, "the refusal", Entry::is_direct)?;
    assert_eq!(line.response_flags.as_deref(), Some("CONNECT"));
    let before = exempted(agent)?;
    wait::until_true("the tunnel to be tried", wait::DEADLINE, || {
        Ok(peer::client(&client, gone, &["watch", "0"], LIMIT).is_ok_and(|end| end == "0 reset"))
    })?;
    assert_eq!(exempted(agent)?, before);
    Ok(())
}

#[test]
fn a_forged_packet_is_never_taken_for_an_exempted_connection() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = neighbours(2, "STRICT", DIRECT)?;
    mesh.config.namespace("outside", false)?;
    let near = mesh.add_pod(&PodSpec::named(1, "outside", "near"))?;
    let far = mesh.add_pod(&PodSpec::named(2, "outside", "far"))?;
    let agent = mesh.agent(1)?;
    let reason = |reason: &str| {
        let labels = ["program=\"sk_lookup\"", &*format!("reason=\"{reason}\"")];
        let count = agent.sample("weft_steering_decisions", &labels)?;
        count.context("no such counter")
    };
    let spoof = |from: &Pod, source: SocketAddr, server: SocketAddr| {
        let (source, server) = (source.to_string(), server.to_string());
        let role = ["spoof", &*server, "--source", &*source, "--say", "forged"];
        peer::play(from, &role)
    };
    for (ip, own) in server.addresses().into_iter().zip(client.addresses()) {
        let mut watch = Server::start(&server, ip, 7001, &["watch"])?;
        let echo = Server::start(&server, ip, 7002, &["echo"])?;
        go_direct(agent, &client, echo.address)?;
        // The destination is exempted, the client has a connection there: still only what its kernel sent
        // counts.
        let mut idle = Client::start(&client, echo.address, &["idle"])?;
        idle.wait_for("connected")?;
        let passed = reason("pass_direct")?;
        for (n, from) in [(0, &near), (1, &far)] {
            let before = reason("drop_policy")?;
            spoof(from, SocketAddr::new(own, 40_000 + n), echo.address)?;
            wait::until_true("it to be refused as plaintext", wait::DEADLINE, || {
                Ok(reason("drop_policy")? > before)
            })?;
        }
        assert_eq!(reason("pass_direct")?, passed);

        // In the middle of a connect: its own packets are held up, and the forged ones come first.
        wait::until_true("an exemption", wait::DEADLINE, || {
            let before = exempted(agent)?;
            peer::client(&client, watch.address, &["reset", "0"], LIMIT).ok();
            Ok(exempted(agent)? > before)
        })?;
        let served = watch.output().lines().count();
        let family = if ip.is_ipv4() { "-4" } else { "-6" };
        let node = &mesh.lab.node(1)?.host;
        let rule = |verb: &str| {
            let argv = [
                "ip",
                family,
                "rule",
                verb,
                "blackhole",
                "iif",
                &*client.link,
            ];
            node.run(&argv, LIMIT).map(|output| output.success())
        };
        ensure!(rule("add")?, "cannot hold the client's packets up");
        let before = exempted(agent)?;
        let mut late = Client::start(&client, watch.address, &["reset", "4"])?;
        wait::until_true("the connect", wait::DEADLINE, || {
            Ok(exempted(agent)? > before)
        })?;
        let port = syn_sent(&client, watch.address)?;
        let before = reason("pass_direct")?;
        for from in [&near, &far] {
            spoof(from, SocketAddr::new(own, port), watch.address)?;
        }
        wait::until_true("the forged packet", wait::DEADLINE, || {
            Ok(reason("pass_direct")? > before)
        })?;
        // It got as far as a handshake that only the client could finish. The client does not.
        assert_eq!(watch.output().lines().count(), served, "{}", watch.output());
        ensure!(rule("delete")?, "cannot let the client's packets go");
        // And the true connection is served, with its own bytes and no others.
        late.go_on()?;
        late.wait_for("we reset")?;
        watch.wait_for(&format!(":{port} 4 reset"))?;
        assert_eq!(
            watch.output().lines().count(),
            served + 1,
            "{}",
            watch.output()
        );
        drop(idle);
        agent.unenroll(&client)?;
        agent.enroll(&client)?;
    }
    Ok(())
}

/// The local port of the pod's one connect to `server` that is not answered yet.
fn syn_sent(pod: &Pod, server: SocketAddr) -> Result<u16> {
    wait::until("a connect that waits", wait::DEADLINE, || {
        let filter = format!("dst = {server}");
        let found = netns::within(pod.place.netns(), || {
            shell::run(&["ss", "-Htn", "state", "syn-sent", &filter])
        })??;
        let local = found.split_whitespace().nth(2);
        let port = local.and_then(|local| local.rsplit_once(':'));
        Ok(port.map(|(_, port)| port.parse()).transpose()?)
    })
}

#[test]
fn a_pod_that_takes_data_before_the_handshake_keeps_the_tunnel() -> Result<()> {
    let _one = serial();
    let (mesh, client, server) = neighbours(1, "STRICT", DIRECT)?;
    let agent = mesh.agent(1)?;
    let set = |value: &str| {
        netns::within(server.place.netns(), || {
            fs::write("/proc/sys/net/ipv4/tcp_fastopen", value)
        })
    };
    set("1539")??;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    for _ in 0..10 {
        assert!(works(&client, echo.address));
    }
    assert_eq!((exempted(agent)?, exemptions(agent)?), (0, 0));
    set("1")??;
    go_direct(agent, &client, echo.address)?;
    // It changes its mind.
    set("1539")??;
    wait::until_true("the exemption to go", wait::DEADLINE, || {
        Ok(exemptions(agent)? == 0)
    })?;
    let before = exempted(agent)?;
    assert!(works(&client, echo.address));
    assert_eq!(exempted(agent)?, before);
    Ok(())
}
