//! Port 15008 and the plaintext door, from the side of someone who should not get in.

use anyhow::Result;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Server};
use lab::serial::serial;
use lab::svid::Authority;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn only_a_certified_peer_with_a_sound_request_gets_through() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.namespace("outside", false)?;
    let web = mesh.add_enrolled(&PodSpec::named(2, "shop", "web"))?;
    let other = mesh.add_enrolled(&PodSpec::named(2, "shop", "other"))?;
    let intruder = mesh.add_pod(&PodSpec::named(1, "outside", "intruder"))?;
    let _echo = Server::start(&web, web.v4.into(), 80, &["echo"])?;
    let mut secret = Server::start(&other, other.v4.into(), 80, &["echo"])?;
    let port = SocketAddr::new(web.v4.into(), 15008);
    let dir = intruder.dir.clone();
    let ours = Authority::of_mesh(mesh.controller.ca_dir())?;
    let client = "spiffe://cluster.local/ns/shop/sa/client";
    let good = ours.issue(&[client], dir.join("good.pem"))?;
    let foreign = Authority::stranger()?.issue(&[client], dir.join("foreign.pem"))?;
    let domain = "spiffe://elsewhere.example/ns/shop/sa/client";
    let elsewhere = ours.issue(&[domain], dir.join("elsewhere.pem"))?;
    let two = ours.issue(&[client, domain], dir.join("two.pem"))?;
    let none = ours.issue(&[], dir.join("none.pem"))?;
    let svid = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (good, foreign) = (svid(&good), svid(&foreign));
    let (elsewhere, two, none) = (svid(&elsewhere), svid(&two), svid(&none));
    let web_80 = format!("{}:80", web.v4);
    let say = |rest: &[&str]| peer::hbone(&intruder, port, rest);

    // A correct peer of the protocol is served: without this, the refusals below would prove nothing.
    let served = say(&["--svid", &good, "--authority", &web_80, "--say", "hello"])?;
    assert!(
        served.starts_with("status 200") && served.ends_with("heard hello"),
        "{served}"
    );
    assert!(
        served.contains("X25519MLKEM768"),
        "not the preferred key exchange: {served}"
    );

    let log = mesh.agent(2)?.access_log();
    let start = lab::access_log::Mark::default();
    log.wait(start, "the connection that was served", |e| {
        e.verdict.as_deref() == Some("allow")
    })?;
    let mark = log.mark();
    for (what, rest) in [
        (
            "garbage instead of a ClientHello",
            vec!["--manner", "garbage"],
        ),
        ("no certificate", vec!["--manner", "no-certificate"]),
        ("TLS 1.2", vec!["--manner", "old-tls", "--svid", &good]),
        ("a certificate of another CA", vec!["--svid", &foreign]),
        ("another trust domain", vec!["--svid", &elsewhere]),
        ("two identities", vec!["--svid", &two]),
        ("no identity", vec!["--svid", &none]),
        ("not HTTP/2", vec!["--manner", "not-http2", "--svid", &good]),
    ] {
        let mut rest = rest;
        rest.extend(["--authority", &*web_80]);
        let line = say(&rest)?;
        assert!(line.starts_with("closed"), "{what}: {line}");
    }
    log.wait(mark, "the TLS failures", |e| {
        e.response_flags.as_deref() == Some("TLS_FAILURE")
    })?;
    assert!(
        log.since(mark)?
            .iter()
            .all(|e| e.verdict.as_deref() != Some("allow"))
    );

    let other_80 = format!("{}:80", other.v4);
    for (what, rest) in [
        ("another pod's authority", vec!["--authority", &*other_80]),
        ("a name", vec!["--authority", "web.shop:80"]),
        (
            "the agent's own port",
            vec!["--authority", &*port_text(web.v4, 15006)],
        ),
        ("GET", vec!["--method", "GET", "--authority", &*web_80]),
    ] {
        let mut rest = rest;
        rest.extend(["--svid", &*good]);
        assert!(say(&rest)?.starts_with("status 400"), "{what}");
    }
    let refused = say(&["--svid", &good, "--authority", &port_text(web.v4, 81)])?;
    assert!(
        refused.starts_with("status 503"),
        "a closed port: {refused}"
    );
    assert!(
        !secret.output().contains("eof"),
        "the other pod was reached"
    );
    secret.wait_for("listening")?;

    // Identity comes from TLS alone: a policy names it, a header or an address cannot claim it.
    let only_bob = "action: ALLOW\nselector: {matchLabels: {app: web}}\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/bob]}\n";
    mesh.add_policy("shop", "only-bob", only_bob)?;
    let denied = say(&["--svid", &good, "--authority", &web_80])?;
    assert!(denied.starts_with("status 401"), "{denied}");
    let bob = ours.issue(
        &["spiffe://cluster.local/ns/shop/sa/bob"],
        dir.join("bob.pem"),
    )?;
    let allowed = say(&["--svid", &svid(&bob), "--authority", &web_80])?;
    assert!(allowed.starts_with("status 200"), "{allowed}");

    // Silence is ended by the agent, not by the test's patience (40 s).
    let silent = say(&["--manner", "silent"])?;
    assert!(silent.starts_with("closed"), "{silent}");
    Ok(())
}

#[test]
fn the_agents_ports_lead_nowhere_in_the_clear() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(2, None)?;
    mesh.config.namespace("open", true)?;
    mesh.config.namespace("outside", false)?;
    mesh.config.peer_authentication("open", "PERMISSIVE")?;
    let web = mesh.add_enrolled(&PodSpec::named(2, "open", "web"))?;
    let intruder = mesh.add_pod(&PodSpec::named(1, "outside", "intruder"))?;
    let echo = Server::start(&web, web.v4.into(), 80, &["echo"])?;
    let limit = Duration::from_secs(30);
    assert_eq!(
        peer::client(&intruder, echo.address, &["many", "1", "1000"], limit)?,
        "echoed 1",
        "PERMISSIVE lets plaintext through, or the refusals below would prove nothing"
    );
    for port in [15001, 15006] {
        for from in [&intruder, &web] {
            let address = SocketAddr::new(web.v4.into(), port);
            let seen = peer::client(from, address, &["watch", "1"], limit)?;
            assert_eq!(seen, "0 reset", "port {port} from {}", from.key());
        }
    }
    Ok(())
}

fn port_text(ip: std::net::Ipv4Addr, port: u16) -> String {
    format!("{ip}:{port}")
}
