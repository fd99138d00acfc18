//! A hostile pod, with every capability inside its own namespace: docs/threat-model.md, put to the test.
//! Each attack is first seen to work where nothing defends against it.

use anyhow::{Context as _, Result};
use lab::capture::Capture;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::svid::Authority;
use lab::usage::{descriptors, resident};
use lab::{Pod, netns, wait};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// What the agent may grow by under any of the abuse here, bytes.
const GROWTH: u64 = 64 << 20;

#[test]
fn a_packet_that_claims_to_come_from_the_server_itself_never_reaches_it() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.namespace("outside", false)?;
    mesh.config.peer_authentication("shop", "STRICT")?;
    let server = mesh.add_pod(&PodSpec::named(2, "shop", "server"))?;
    let intruder = mesh.add_pod(&PodSpec::named(1, "outside", "intruder"))?;
    // The least guarded pod there is: a SYN's data is taken at once, and its own address from outside too.
    netns::within(server.place.netns(), || -> Result<()> {
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1539")?;
        Ok(fs::write("/proc/sys/net/ipv4/conf/all/accept_local", "1")?)
    })??;
    let listening: Vec<Server> = server
        .addresses()
        .into_iter()
        .map(|ip| Server::start(&server, ip, 7001, &["watch"]))
        .collect::<Result<_>>()?;
    let spoof = |source: SocketAddr, server: SocketAddr, say: &str| {
        let (source, server) = (source.to_string(), server.to_string());
        peer::play(
            &intruder,
            &["spoof", &server, "--source", &source, "--say", say],
        )
    };
    for mut at in listening {
        let ip = at.address.ip();
        let own = |port| SocketAddr::new(ip, port);
        spoof(own(40_001), at.address, "seven b")?;
        at.wait_for("7 ")?;
        assert_eq!(at.output().matches(" 7 ").count(), 1, "{}", at.output());

        let agent = mesh.agent(2)?;
        agent.enroll(&server)?;
        let before = agent.decisions("drop_own_source")?;
        spoof(own(40_002), at.address, "seven b")?;
        wait::until_true("the packet to be dropped", wait::DEADLINE, || {
            Ok(agent.decisions("drop_own_source")? > before)
        })?;
        // To the HBONE port as well: there the agent itself would have heard it.
        let before = agent.decisions("drop_own_source")?;
        spoof(own(40_003), own(15008), "x")?;
        wait::until_true("the packet to be dropped", wait::DEADLINE, || {
            Ok(agent.decisions("drop_own_source")? > before)
        })?;
        // Under its own name it is refused as plaintext, before any of its data is looked at.
        let before = agent.decisions("drop_policy")?;
        let true_source = intruder.addresses().into_iter();
        let true_source = true_source
            .map(|ip| SocketAddr::new(ip, 40_004))
            .find(|a| a.is_ipv4() == at.address.is_ipv4())
            .context("no address")?;
        spoof(true_source, at.address, "seven b")?;
        wait::until_true("the packet to be refused", wait::DEADLINE, || {
            Ok(agent.decisions("drop_policy")? > before)
        })?;
        assert_eq!(at.output().matches(" 7 ").count(), 1, "{}", at.output());
        agent.unenroll(&server)?;
    }
    Ok(())
}

#[test]
fn no_way_to_connect_leaves_an_enrolled_pod_in_the_clear() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.peer_authentication("shop", "PERMISSIVE")?;
    let server = mesh.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
    let client = mesh.add_pod(&PodSpec::named(1, "shop", "client"))?;
    netns::within(client.place.netns(), || {
        // Client and server, without cookies: data leaves in the SYN.
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543")
    })??;
    let echo4 = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let echo6 = Server::start(&server, server.v6.into(), 7001, &["echo"])?;
    let ways: Vec<(&str, &Server, String)> = [
        "mark",
        "device",
        "after-local",
        "reconnect",
        "fast-open",
        "multipath",
        "bound",
    ]
    .into_iter()
    .flat_map(|way| {
        [
            (way, &echo4, client.v4.to_string()),
            (way, &echo6, client.v6.to_string()),
        ]
    })
    .chain([("mapped", &echo4, client.v4.to_string())])
    .collect();
    let go = |(way, echo, own): &(&str, &Server, String), say: &str| {
        let to = echo.address.to_string();
        let role = ["escape", &to, "--way", way, "--own", own, "--say", say];
        peer::play(&client, &role)
    };
    let mut wire = Capture::wire(&mesh.lab)?;
    for (n, way) in ways.iter().enumerate() {
        let needle = format!("escape-in-clear-{n}-end");
        assert_eq!(go(way, &needle)?, format!("heard {needle}"), "{}", way.0);
        assert!(
            wire.trace()?.contains(needle.as_bytes()),
            "{} to {} does not even work without a mesh",
            way.0,
            way.1.address
        );
    }
    mesh.agent(1)?.enroll(&client)?;
    let clear = wire.trace()?.packets_on_port(7001);
    for (n, way) in ways.iter().enumerate() {
        let mark = mesh.agent(2)?.access_log().mark();
        let needle = format!("escape-in-mesh-{n}-end");
        assert_eq!(go(way, &needle)?, format!("heard {needle}"), "{}", way.0);
        let to = way.1.address.to_string();
        mesh.agent(2)?
            .access_log()
            .wait(mark, "the tunnelled connection", |e| {
                e.is_between("client", "server")
                    && e.is_mutual_tls()
                    && e.dst_addr.as_deref() == Some(&*to)
            })?;
        assert!(
            !wire.trace()?.contains(needle.as_bytes()),
            "{} to {to} left in the clear",
            way.0
        );
    }
    assert_eq!(wire.stop()?.packets_on_port(7001), clear);
    Ok(())
}

/// A mesh with a server, and two pods outside it that have got hold of a valid certificate: one abuses
/// it, the other behaves.
struct Stolen {
    mesh: Mesh,
    server: Pod,
    client: Pod,
    intruder: Pod,
    guest: Pod,
    svid: String,
}

impl Stolen {
    fn new() -> Result<Self> {
        let mut mesh = Mesh::start(2, None)?;
        mesh.config.namespace("shop", true)?;
        mesh.config.namespace("outside", false)?;
        mesh.config.peer_authentication("shop", "STRICT")?;
        let server = mesh.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
        let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
        let intruder = mesh.add_pod(&PodSpec::named(1, "outside", "intruder"))?;
        let guest = mesh.add_pod(&PodSpec::named(1, "outside", "guest"))?;
        let ours = Authority::of_mesh(mesh.controller.ca_dir())?;
        let identity = "spiffe://cluster.local/ns/shop/sa/intruder";
        let svid = ours.issue(&[identity], intruder.dir.join("svid.pem"))?;
        let svid = svid.to_string_lossy().into_owned();
        Ok(Self {
            mesh,
            server,
            client,
            intruder,
            guest,
            svid,
        })
    }

    fn port(&self) -> SocketAddr {
        SocketAddr::new(self.server.v4.into(), 15008)
    }

    fn abuse(&self, target: &Server, how: &[&str]) -> Result<Client> {
        let (port, authority) = (self.port().to_string(), target.address.to_string());
        let role = [
            "abuse",
            &*port,
            "--svid",
            &*self.svid,
            "--authority",
            &*authority,
        ];
        Client::play(&self.intruder, &[&role, how].concat())
    }

    /// The pid of the agent under attack.
    fn agent(&self) -> Result<u32> {
        self.mesh.agent(2)?.pid().context("the agent is dead")
    }

    /// Others are served as if nothing were.
    fn others_are_served(&self, echo: &Server, during: &str) -> Result<()> {
        let done = peer::client(&self.client, echo.address, &["many", "8", "200000"], LIMIT);
        assert_eq!(done.context(during.to_owned())?, "echoed 8", "{during}");
        Ok(())
    }
}

#[test]
fn http2_abuse_costs_its_author_alone() -> Result<()> {
    let _one = serial();
    let lab = Stolen::new()?;
    let echo = Server::start(&lab.server, lab.server.v4.into(), 7001, &["echo"])?;
    lab.others_are_served(&echo, "before anything")?;
    let before = resident(lab.agent()?)?;

    let mut flood = lab.abuse(&echo, &["streams", "1000"])?;
    flood.wait_for("accepted 200 refused 800 other 0")?;
    lab.others_are_served(&echo, "1,000 streams")?;
    drop(flood);

    let resets = lab.abuse(&echo, &["resets", "20000"])?;
    lab.others_are_served(&echo, "resets")?;
    // ENHANCE_YOUR_CALM
    assert_eq!(resets.end(LIMIT)?, "closed after goaway 11");

    let small = lab.abuse(&echo, &["headers", "8000"])?;
    assert_eq!(
        small.end(LIMIT)?,
        "accepted",
        "a request with 8 KB of headers"
    );
    let large = lab.abuse(&echo, &["headers", "1048576"])?;
    lab.others_are_served(&echo, "1 MiB of headers")?;
    let large = large.end(LIMIT)?;
    assert!(
        large.starts_with("goaway") || large == "refused" || large == "closed",
        "{large}"
    );

    // Those that stall are let go by the agent while others are served.
    let no_preface = lab.abuse(&echo, &["no-preface"])?;
    let mut stalled = lab.abuse(&echo, &["stall"])?;
    stalled.wait_for("stream open")?;
    lab.others_are_served(&echo, "two that stall")?;
    assert_eq!(no_preface.end(LIMIT)?, "closed");
    assert_eq!(stalled.end(LIMIT)?, "stream open\nclosed");
    lab.others_are_served(&echo, "after everything")?;
    let grown = resident(lab.agent()?)?.saturating_sub(before);
    assert!(grown < GROWTH, "the agent grew by {grown} bytes");
    Ok(())
}

#[test]
fn streams_that_are_reset_leave_no_work_behind() -> Result<()> {
    let _one = serial();
    let lab = Stolen::new()?;
    let echo = Server::start(&lab.server, lab.server.v4.into(), 7001, &["echo"])?;
    let deaf = Server::start(&lab.server, lab.server.v4.into(), 7002, &["deaf"])?;
    lab.others_are_served(&echo, "before anything")?;
    let before = descriptors(lab.agent()?)?;
    // Each of these connects hangs for 10 s unless the reset ends it.
    let mut cancel = lab.abuse(&deaf, &["cancel", "3000"])?;
    cancel.wait_for("cancelled 3000")?;
    let held = descriptors(lab.agent()?)?.saturating_sub(before);
    assert!(
        held <= 300,
        "3,000 streams that are gone hold {held} descriptors"
    );
    lab.others_are_served(&echo, "streams to a deaf application")
}

#[test]
fn a_silent_crowd_keeps_nobody_out_and_is_let_go() -> Result<()> {
    let _one = serial();
    let lab = Stolen::new()?;
    let echo = Server::start(&lab.server, lab.server.v4.into(), 7001, &["echo"])?;
    let port = lab.port().to_string();
    let authority = echo.address.to_string();
    let served = |what: &str| -> Result<()> {
        let rest = [
            "--svid",
            &lab.svid,
            "--authority",
            &authority,
            "--say",
            "hello",
        ];
        let line = peer::hbone(&lab.guest, lab.port(), &rest)?;
        assert!(line.ends_with("heard hello"), "{what}: {line}");
        Ok(())
    };
    served("before anything")?;
    let mut crowd = Client::play(&lab.intruder, &["crowd", &port, "1100", "--once"])?;
    crowd.wait_for("all there")?;
    served("a crowd that came once")?;
    assert_eq!(crowd.end(LIMIT)?, "all there\nall gone");
    let mut crowd = Client::play(&lab.intruder, &["crowd", &port, "1100"])?;
    crowd.wait_for("all there")?;
    for n in 0..20 {
        served(&format!("a crowd that comes back, {n}"))?;
    }
    lab.others_are_served(&echo, "a crowd that comes back")?;
    drop(crowd);
    served("after everything")
}
