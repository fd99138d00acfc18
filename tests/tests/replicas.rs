//! Two replicas of the controller behind one address, one of them killed again and again while it tells the
//! agents of changes: no connection fails, none that is denied passes, and every change arrives.

use anyhow::{Context as _, Result, ensure};
use lab::balancer::Balancer;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Server};
use lab::serial::serial;
use lab::{Pod, wait};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the replicas are reached together.
const PORT: u16 = 15112 + 100;
/// Pods that change at once: a push of some hundred kilobytes.
const PODS: usize = 1000;

/// One request over a new connection.
fn works(client: &Pod, server: SocketAddr) -> bool {
    peer::client(client, server, &["many", "1", "1000"], LIMIT).is_ok_and(|line| line == "echoed 1")
}

/// Pods that nobody talks to, with another label in each round.
fn crowd(round: usize) -> String {
    let mut yaml = String::new();
    for pod in 0..PODS {
        let address = format!("10.250.{}.{}", pod / 250, pod % 250 + 1);
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: crowd-{pod}, namespace: crowd, \
             labels: {{app: round-{round}}}}}\nspec: {{nodeName: elsewhere, containers: [{{name: main}}]}}\n\
             status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}], \
             conditions: [{{type: Ready, status: \"True\"}}]}}\n"
        );
    }
    yaml
}

#[test]
fn a_replica_that_is_killed_in_the_middle_of_a_push_is_not_missed() -> Result<()> {
    let _one = serial();
    let (mut mesh, client, server) = Mesh::pair()?;
    let intruder = mesh.add_enrolled(&PodSpec::named(1, "shop", "intruder"))?;
    let denied = "action: DENY\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/shop/sa/intruder]}\n";
    mesh.add_policy("shop", "no-intruder", denied)?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;

    let second = mesh.controller.replica(&mesh.lab)?;
    let servers = vec![mesh.controller.address(), second.address()];
    let host = mesh.lab.node(1)?;
    let inside = mesh.lab.outside(1, "balancer")?;
    let balancer = Balancer::start(
        inside.netns(),
        SocketAddr::new(host.v4.into(), PORT),
        servers,
    )?;
    for node in [1, 2] {
        let agent = mesh.agent_mut(node)?;
        agent.kill()?;
        agent.set_option("controller", &format!("https://{}", balancer.address()))?;
        agent.restart()?;
    }
    wait::until_true("it to work to begin with", wait::DEADLINE, || {
        Ok(works(&client, echo.address) && !works(&intruder, echo.address))
    })?;

    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> Result<()> {
        let traffic = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                ensure!(works(&client, echo.address), "a connection failed");
                ensure!(
                    !works(&intruder, echo.address),
                    "a denied connection passed"
                );
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let killed = kill_in_turn(&mut mesh, second);
        stop.store(true, Ordering::Relaxed);
        let undisturbed = traffic.join().expect("the traffic does not panic");
        killed?;
        undisturbed
    })?;
    let done = done.into_inner();
    assert!(done > 20, "there was traffic: {done}");
    Ok(())
}

fn kill_in_turn(mesh: &mut Mesh, mut second: lab::controller::Controller) -> Result<()> {
    for round in 0..6 {
        let name = format!("round-{round}");
        mesh.config.write("crowd", &crowd(round))?;
        mesh.config.policy(
            "shop",
            &format!("policy-{round}"),
            "action: DENY\nrules: []\n",
        )?;
        let victim = match round % 2 {
            0 => &mut mesh.controller,
            _ => &mut second,
        };
        // Some 100 ms after a change the directory is read, and the agents are told.
        thread::sleep(Duration::from_millis(100 + 40 * round as u64));
        victim.kill()?;
        for agent in &mesh.agents {
            agent
                .wait_for(&format!("policy-{round}"), true)
                .with_context(|| {
                    format!("{name}: the change did not arrive by the other replica")
                })?;
        }
        let victim = match round % 2 {
            0 => &mut mesh.controller,
            _ => &mut second,
        };
        victim.restart()?;
    }
    Ok(())
}
