//! The root of a running mesh is changed under traffic, and no connection notices.

use anyhow::{Context as _, Result, bail, ensure};
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Server};
use lab::serial::serial;
use lab::{Pod, wait};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const LIMIT: Duration = Duration::from_secs(60);
/// The shortest that the controller issues; agents renew at half of it.
const LIFE: Duration = Duration::from_secs(60);
/// So long a renewal takes at most, on a busy machine.
const RENEWED_WITHIN: Duration = Duration::from_secs(120);

/// One request over a new connection.
fn works(client: &Pod, server: SocketAddr) -> Result<()> {
    let line = peer::client(client, server, &["many", "1", "1000"], LIMIT)?;
    ensure!(line == "echoed 1", "{line}");
    Ok(())
}

/// Waits until every certificate of every agent was issued after now.
fn everybody_renews(mesh: &Mesh) -> Result<()> {
    // Certificates end on a full second.
    let after = OffsetDateTime::from(SystemTime::now() + LIFE + Duration::from_secs(1));
    for agent in &mesh.agents {
        wait::until_true("every certificate to be renewed", RENEWED_WITHIN, || {
            let dump: serde_json::Value = serde_json::from_str(&agent.config_dump()?)?;
            let certificates = dump["certificates"].as_array().context("no list")?;
            ensure!(!certificates.is_empty(), "no certificate is kept");
            let mut all = true;
            for certificate in certificates {
                let end = certificate["chain"][0]["notAfter"]
                    .as_str()
                    .context("it has no end")?;
                all &= OffsetDateTime::parse(end, &Rfc3339)? >= after;
            }
            Ok(all)
        })?;
    }
    Ok(())
}

/// Certificates live for a minute here, so everybody has renewed long before the steps' own waits are
/// over; the test sees to that itself, and forces the steps.
#[test]
fn the_root_is_changed_and_no_connection_fails() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair()?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    mesh.controller.kill()?;
    mesh.controller.add_option("cert-ttl", "1m");
    mesh.controller.restart()?;
    for node in [1, 2] {
        let agent = mesh.agent_mut(node)?;
        agent.kill()?;
        agent.restart()?;
    }
    wait::until_true("it to work to begin with", wait::DEADLINE, || {
        Ok(works(&client, echo.address).is_ok())
    })?;
    let first = mesh
        .controller
        .metric("weft_controller_ca_expiry_seconds")?;
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> Result<()> {
        let traffic = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                works(&client, echo.address)?;
                done.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        });
        let rotated = rotate(&mut mesh, echo.address, first);
        stop.store(true, Ordering::Relaxed);
        let undisturbed = traffic.join().expect("the traffic does not panic");
        rotated?;
        undisturbed.context("a connection failed while the root was changed")
    })?;
    let done = done.into_inner();
    assert!(done > 100, "there was traffic: {done}");
    Ok(())
}

fn rotate(mesh: &mut Mesh, server: SocketAddr, first: f64) -> Result<()> {
    // A pod of its own identity shakes hands anew, instead of using a tunnel from before.
    let newcomer = |mesh: &mut Mesh, name: &str| -> Result<()> {
        let pod = mesh.add_enrolled(&PodSpec::named(1, "shop", name))?;
        works(&pod, server).with_context(|| format!("{name} does not reach the server"))
    };
    let roots = |mesh: &Mesh| mesh.controller.metric("weft_controller_ca_roots");

    mesh.controller.ca(&["prepare"])?;
    wait::until_true("both roots", wait::DEADLINE, || Ok(roots(mesh)? == 2.0))?;
    newcomer(mesh, "prepared")?;
    everybody_renews(mesh)?;

    let Err(refused) = mesh.controller.ca(&["activate"]) else {
        bail!("the new root signs before its time");
    };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("Run it again after"), "{refused}");
    mesh.controller.ca(&["activate", "--force"])?;
    wait::until_true("the new root to sign", wait::DEADLINE, || {
        Ok(mesh
            .controller
            .metric("weft_controller_ca_expiry_seconds")?
            != first)
    })?;
    newcomer(mesh, "activated")?;
    everybody_renews(mesh)?;

    mesh.controller.ca(&["finish", "--force"])?;
    wait::until_true("the new root alone", wait::DEADLINE, || {
        Ok(roots(mesh)? == 1.0)
    })?;
    newcomer(mesh, "finished")?;
    everybody_renews(mesh)?;
    newcomer(mesh, "afterwards")
}
