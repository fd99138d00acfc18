//! Plaintext that no policy could allow is refused in the kernel: at once, counted by policy, agent or no agent;
//! and nothing else is.

use anyhow::{Context as _, Result, ensure};
use lab::access_log::Entry;
use lab::agent::Agent;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Server};
use lab::serial::serial;
use lab::{Pod, netns, wait};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const STRICT: &str = "istio-system/istio_converted_static_strict";

/// What becomes of a connection in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The application answered.
    Answered,
    /// connect() failed: nobody was there.
    Refused,
    /// It was accepted, then ended without an answer.
    Cut,
}

/// Connects from a network namespace and has a word echoed.
fn dial(from: &Path, to: SocketAddr) -> Result<Seen> {
    netns::within(from, || -> Result<Seen> {
        let mut tcp = match TcpStream::connect_timeout(&to, LIMIT) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Ok(Seen::Refused),
            // The reset came before the timed connect looked whether it was through.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(Seen::Cut),
            result => result.with_context(|| format!("cannot connect to {to}"))?,
        };
        tcp.set_read_timeout(Some(LIMIT))?;
        let mut echoed = [0; 4];
        let result = tcp
            .write_all(b"word")
            .and_then(|()| tcp.read_exact(&mut echoed));
        match result {
            Ok(()) if echoed == *b"word" => Ok(Seen::Answered),
            Ok(()) => anyhow::bail!("{to} answered {echoed:?}"),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                anyhow::bail!("{to} neither answered nor closed")
            }
            Err(_) => Ok(Seen::Cut),
        }
    })?
}

fn from(pod: &Pod, to: SocketAddr) -> Result<Seen> {
    dial(pod.place.netns(), to)
}

/// Waits until a connection in the clear is seen so: a change of policy has arrived.
fn becomes(pod: &Pod, to: SocketAddr, seen: Seen) -> Result<()> {
    let what = format!("a connection to {to} to be {seen:?}");
    wait::until_true(&what, wait::DEADLINE, || Ok(from(pod, to)? == seen))
}

/// How many were refused in the kernel on their way to `shop/server`, because of `policy`.
fn refused(agent: &Agent, policy: &str) -> Result<u64> {
    let by_policy = agent.refused("shop", "server")?;
    Ok(by_policy.get(policy).copied().unwrap_or(0))
}

struct World {
    mesh: Mesh,
    client: Pod,
    server: Pod,
    outsider: Pod,
    echoes: Vec<Server>,
}

/// `shop` with a client and a server that echoes at port 7001, and a pod that is not in the mesh.
fn world(mode: &str, options: &[(&str, &str)]) -> Result<World> {
    let mut mesh = Mesh::with_options(2, None, options)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.namespace("outside", false)?;
    mesh.config.peer_authentication("shop", mode)?;
    let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
    let server = mesh.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
    let outsider = mesh.add_pod(&PodSpec::named(1, "outside", "outsider"))?;
    let echoes = server
        .addresses()
        .into_iter()
        .map(|ip| Server::start(&server, ip, 7001, &["echo"]))
        .collect::<Result<_>>()?;
    Ok(World {
        mesh,
        client,
        server,
        outsider,
        echoes,
    })
}

#[test]
fn plaintext_to_a_strict_pod_is_refused_in_the_kernel_until_policy_relaxes() -> Result<()> {
    let _one = serial();
    let World {
        mut mesh,
        client,
        server,
        outsider,
        echoes,
    } = world("STRICT", &[])?;
    for echo in &echoes {
        becomes(&outsider, echo.address, Seen::Refused)?;
        // It works for those who may.
        let done = peer::client(&client, echo.address, &["many", "1", "1000"], LIMIT)?;
        assert_eq!(done, "echoed 1");
    }
    let agent = mesh.agent(2)?;
    let steered = agent.decisions("redirect_plaintext")?;
    let (dropped, counted) = (agent.decisions("drop_policy")?, refused(agent, STRICT)?);
    assert_eq!(dropped, counted);
    for _ in 0..5 {
        for echo in &echoes {
            assert_eq!(from(&outsider, echo.address)?, Seen::Refused);
        }
        // Where nobody listens, the answer is no other.
        let nobody = SocketAddr::new(server.v4.into(), 7999);
        assert_eq!(from(&outsider, nobody)?, Seen::Refused);
    }
    assert_eq!(refused(agent, STRICT)?, counted + 15);
    assert_eq!(agent.decisions("drop_policy")?, dropped + 15);
    assert_eq!(
        agent.decisions("redirect_plaintext")?,
        steered,
        "some reached the agent"
    );
    let labels = [
        "reporter=\"destination\"",
        "source_workload=\"unknown\"",
        "destination_workload=\"server\"",
        "response_flags=\"DENY\"",
    ];
    let failed = agent.sample("istio_tcp_connections_failed_total", &labels)?;
    assert!(failed >= Some(counted + 15), "{failed:?}");
    wait::until_true("the log to tell of it", wait::DEADLINE, || {
        let output = agent.output();
        Ok(output.contains(" refused in the kernel, the last from ") && output.contains(STRICT))
    })?;

    // The node's own probes, and the mesh, go on.
    let host = agent.node().host.netns();
    for echo in &echoes {
        assert_eq!(dial(host, echo.address)?, Seen::Answered);
        let done = peer::client(&client, echo.address, &["many", "1", "1000"], LIMIT)?;
        assert_eq!(done, "echoed 1");
    }

    // Without an agent it goes on, and the next one tells of what was refused meanwhile.
    mesh.agents[1].kill()?;
    for echo in &echoes {
        assert_eq!(from(&outsider, echo.address)?, Seen::Refused);
    }
    mesh.agents[1].restart()?;
    let agent = mesh.agent(2)?;
    wait::until_true("the count of before", wait::DEADLINE, || {
        Ok(refused(agent, STRICT)? == 2)
    })?;
    assert_eq!(agent.decisions("drop_policy")?, dropped + 17);
    assert_eq!(agent.decisions("drop_no_listener")?, 0);

    mesh.config.peer_authentication("shop", "PERMISSIVE")?;
    for echo in &echoes {
        becomes(&outsider, echo.address, Seen::Answered)?;
    }
    mesh.config.peer_authentication("shop", "STRICT")?;
    for echo in &echoes {
        becomes(&outsider, echo.address, Seen::Refused)?;
    }
    let before = agent.decisions("redirect_plaintext")?;
    assert_eq!(from(&outsider, echoes[0].address)?, Seen::Refused);
    assert_eq!(agent.decisions("redirect_plaintext")?, before);

    agent.unenroll(&server)?;
    for echo in &echoes {
        assert_eq!(from(&outsider, echo.address)?, Seen::Answered);
    }
    Ok(())
}

#[test]
fn each_port_is_refused_by_what_holds_there() -> Result<()> {
    let _one = serial();
    let World {
        mesh,
        server,
        outsider,
        echoes,
        ..
    } = world("STRICT", &[])?;
    let agent = mesh.agent(2)?;
    let strict = echoes[0].address;
    let other = Server::start(&server, server.v4.into(), 7002, &["echo"])?;
    let of_server = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: ports, namespace: shop}}\n\
             spec:\n  selector: {{matchLabels: {{app: server}}}}\n  {spec}\n"
        )
    };
    let by_port = "shop/istio_converted_ports";
    becomes(&outsider, strict, Seen::Refused)?;
    for spec in [
        "mtls: {mode: STRICT}\n  portLevelMtls: {7002: {mode: PERMISSIVE}}",
        "mtls: {mode: STRICT}\n  portLevelMtls: {7002: {mode: DISABLE}}",
        "mtls: {mode: DISABLE}\n  portLevelMtls: {7001: {mode: STRICT}}",
    ] {
        mesh.config
            .write("peerauthentication-ports", &of_server(spec))?;
        becomes(&outsider, other.address, Seen::Answered)?;
        becomes(&outsider, strict, Seen::Refused)?;
        let before = refused(agent, by_port)?;
        for _ in 0..3 {
            assert_eq!(from(&outsider, strict)?, Seen::Refused, "{spec}");
            assert_eq!(from(&outsider, other.address)?, Seen::Answered, "{spec}");
        }
        assert_eq!(refused(agent, by_port)?, before + 3, "{spec}");
        // Back to STRICT everywhere, so that the next change is seen.
        mesh.config.remove("peerauthentication-ports")?;
        becomes(&outsider, other.address, Seen::Refused)?;
    }

    // A workload whose callers are all named is as closed to those without a name as under STRICT.
    mesh.config.peer_authentication("shop", "PERMISSIVE")?;
    becomes(&outsider, strict, Seen::Answered)?;
    mesh.add_policy(
        "shop",
        "callers",
        "action: ALLOW\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/client]}\n",
    )?;
    becomes(&outsider, strict, Seen::Refused)?;
    let before = refused(agent, "shop/callers")?;
    assert_eq!(from(&outsider, strict)?, Seen::Refused);
    assert_eq!(refused(agent, "shop/callers")?, before + 1);
    // One that is let in by its address has to be judged, and so has everybody at that port.
    let own = format!(
        "action: ALLOW\nrules:\n- from:\n  - source: {{ipBlocks: [{}]}}\n  to:\n  - operation: {{ports: [\"7002\"]}}\n",
        outsider.v4
    );
    mesh.add_policy("shop", "outsider", &own)?;
    becomes(&outsider, other.address, Seen::Answered)?;
    assert_eq!(from(&outsider, strict)?, Seen::Refused);
    // One that only watches must not be kept from seeing.
    let all = "action: AUDIT\nrules:\n- to:\n  - operation: {ports: [\"7001\"]}\n";
    let mark = agent.access_log().mark();
    mesh.add_policy("shop", "watched", all)?;
    becomes(&outsider, strict, Seen::Cut)?;
    let audited = agent
        .access_log()
        .wait(mark, "the audit", |e| e.is_denied() && !e.audit.is_empty())?;
    assert_eq!(audited.audit[0]["policy"], "shop/watched");
    Ok(())
}

#[test]
fn without_the_option_the_agent_denies_and_logs_each() -> Result<()> {
    let _one = serial();
    let World {
        mut mesh,
        outsider,
        echoes,
        ..
    } = world("STRICT", &[("refuse-in-kernel", "true")])?;
    becomes(&outsider, echoes[0].address, Seen::Refused)?;
    let agent = &mut mesh.agents[1];
    agent.kill()?;
    agent.set_option("refuse-in-kernel", "false")?;
    agent.restart()?;
    for echo in &echoes {
        let mark = agent.access_log().mark();
        assert_eq!(from(&outsider, echo.address)?, Seen::Cut);
        let line = agent
            .access_log()
            .wait(mark, "the denial", Entry::is_denied)?;
        ensure!(line.policy.as_deref() == Some(STRICT), "{line:?}");
    }
    Ok(())
}
