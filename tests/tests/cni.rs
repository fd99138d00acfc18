//! Enrolment as in Kubernetes: the controller says who is in; new pods come by the CNI plugin, running ones are found.

use anyhow::{Context as _, Result, ensure};
use lab::agent::Agent;
use lab::capture::Capture;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{self, Client, Server};
use lab::serial::serial;
use lab::{Pod, netns, shell, wait};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const KUBERNETES: &[(&str, &str)] = &[("enrol", "kubernetes")];
/// Pods that start at once.
const RACERS: usize = 100;

fn lists(agent: &Agent, pods: &[&Pod]) -> Result<bool> {
    let listed = agent.list()?;
    let listed = listed.as_array().context("not a list")?;
    let is = |pod: &&Pod| {
        let named = |entry: &&serde_json::Value| {
            entry["namespace"] == pod.namespace && entry["name"] == pod.name
        };
        listed.iter().any(|entry| named(&entry))
    };
    Ok(listed.len() == pods.len() && pods.iter().all(is))
}

fn says(client: &Pod, server: SocketAddr, word: &str) -> Result<()> {
    let heard = peer::client(client, server, &["say", word], LIMIT)?;
    ensure!(heard == format!("heard {word}"), "{heard}");
    Ok(())
}

#[test]
fn a_label_takes_running_pods_in_and_out_and_drops_no_connection() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::with_options(2, None, KUBERNETES)?;
    mesh.config.namespace("shop", false)?;
    let client = mesh.add_pod(&PodSpec::named(1, "shop", "client"))?;
    let server = mesh.add_pod(&PodSpec::named(2, "shop", "server"))?;
    let opted_out = mesh.add_pod(&PodSpec {
        labels: &[("istio.io/dataplane-mode", "none")],
        ..PodSpec::named(1, "shop", "out")
    })?;
    // A pod is found by its processes.
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    let _stays_out = Server::start(&opted_out, opted_out.v4.into(), 7001, &["echo"])?;
    let mut before = Client::start(&client, echo.address, &["talk", "weft-before"])?;
    before.wait_for("connected")?;

    let labelled = Instant::now();
    mesh.config.namespace("shop", true)?;
    wait::until_true("the pods to be captured", wait::DEADLINE, || {
        Ok(lists(mesh.agent(1)?, &[&client])? && lists(mesh.agent(2)?, &[&server])?)
    })?;
    println!("captured {:?} after the label", labelled.elapsed());
    let mut wire = Capture::wire(&mesh.lab)?;
    says(&client, echo.address, "weft-inside")?;
    let trace = wire.trace()?;
    ensure!(!trace.contains(b"weft-inside"), "plaintext after the label");
    ensure!(trace.tls_records_to(15008).application > 0, "no tunnel");
    before.go_on()?;
    before
        .wait_for("heard")
        .context("the connection from before")?;

    let mut inside = Client::start(&client, echo.address, &["talk", "weft-tunnel"])?;
    inside.wait_for("connected")?;
    inside.go_on()?;
    inside.wait_for("heard")?;
    mesh.config.namespace("shop", false)?;
    wait::until_true("the pods to be let go", wait::DEADLINE, || {
        Ok(lists(mesh.agent(1)?, &[])? && lists(mesh.agent(2)?, &[])?)
    })?;
    says(&client, echo.address, "weft-outside")?;
    ensure!(wire.trace()?.contains(b"weft-outside"), "still tunnelled");
    inside.go_on()?;
    wait::until_true("an answer over the old tunnel", wait::DEADLINE, || {
        Ok(inside.output().matches("heard").count() == 2)
    })?;
    Ok(())
}

#[test]
fn an_agent_without_a_controller_keeps_its_pods() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::with_options(1, None, KUBERNETES)?;
    mesh.config.namespace("shop", true)?;
    let pod = mesh.add_pod(&PodSpec::named(1, "shop", "web"))?;
    // Two processes: the pod is found again when the one is gone by which it was found.
    let mut first = Some(Server::start(&pod, pod.v4.into(), 7001, &["echo"])?);
    wait::until_true("the pod to be captured", wait::DEADLINE, || {
        lists(mesh.agent(1)?, &[&pod])
    })?;
    let _second = Server::start(&pod, pod.v4.into(), 7002, &["echo"])?;
    mesh.controller.kill()?;
    mesh.agent_mut(1)?.kill()?;
    drop(first.take());
    mesh.agent_mut(1)?.spawn()?;
    wait::until_true("the pod to be taken up again", wait::DEADLINE, || {
        Ok(lists(mesh.agent(1)?, &[&pod]).unwrap_or(false))
    })
}

#[test]
fn pods_of_the_mesh_wait_for_the_agent_and_others_for_nobody() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::with_options(1, None, KUBERNETES)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.namespace("bank", false)?;
    let known = mesh.add_pod(&PodSpec::named(1, "shop", "known"))?;
    let new = mesh.lab.add_pod(1, "shop", "new")?;
    let other = mesh.lab.add_pod(1, "bank", "other")?;
    let agent = mesh.agent(1)?;
    // The first by name, the second by its namespace.
    for pod in [&known, &new] {
        let added = agent.cni("ADD", pod)?;
        ensure!(
            added.success(),
            "{}: {} {}",
            pod.key(),
            added.stdout,
            added.summary()
        );
    }
    ensure!(lists(agent, &[&known, &new])?, "{}", agent.list()?);
    ensure!(
        agent.cni("CHECK", &known)?.success(),
        "CHECK of a captured pod"
    );
    ensure!(agent.cni("DEL", &known)?.success(), "DEL");
    ensure!(lists(agent, &[&new])?, "{}", agent.list()?);
    ensure!(
        !agent.cni("CHECK", &known)?.success(),
        "CHECK of one that is not"
    );

    mesh.controller.kill()?;
    mesh.agent_mut(1)?.kill()?;
    let agent = mesh.agent(1)?;
    let refused = agent.cni("ADD", &known)?;
    ensure!(
        !refused.success() && refused.stdout.contains("shop/known"),
        "a pod of the mesh started without an agent: {}",
        refused.stdout
    );
    let passed = agent.cni("ADD", &other)?;
    ensure!(
        passed.success() && passed.stdout.contains(&other.v4.to_string()),
        "{} {}",
        passed.stdout,
        passed.summary()
    );
    ensure!(agent.cni("DEL", &new)?.success(), "DEL without an agent");
    Ok(())
}

#[test]
fn pods_whose_first_act_is_a_connect_are_captured() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::with_options(2, None, KUBERNETES)?;
    mesh.config.namespace("shop", true)?;
    mesh.config.peer_authentication("shop", "STRICT")?;
    let server = mesh.add_pod(&PodSpec::named(2, "shop", "server"))?;
    let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
    wait::until_true("the server to be captured", wait::DEADLINE, || {
        lists(mesh.agent(2)?, &[&server])
    })?;
    let mut wire = Capture::wire(&mesh.lab)?;
    let names: Vec<String> = (0..RACERS).map(|n| format!("racer-{n}")).collect();
    let mut started = Vec::new();
    for name in &names {
        let spec = PodSpec {
            account: "racer",
            ..PodSpec::named(1, "shop", name)
        };
        let pod = mesh.lab.add_pod(1, "shop", name)?;
        mesh.config.service_account("shop", "racer")?;
        mesh.config.scheduled_pod(mesh.lab.node(1)?, &pod, &spec)?;
        let added = mesh.agent(1)?.cni("ADD", &pod)?;
        ensure!(
            added.success(),
            "{name}: {} {}",
            added.stdout,
            added.summary()
        );
        let word = format!("weft-first-{name}-");
        started.push(Client::start(&pod, echo.address, &["say", &word])?);
        // kubelet tells of the address only now.
        mesh.describe(&pod, &spec)?;
    }
    for (name, client) in names.iter().zip(started) {
        let heard = client.end(LIMIT)?;
        ensure!(heard.starts_with("heard"), "{name}: {heard}");
    }
    let trace = wire.trace()?;
    ensure!(!trace.contains(b"weft-first-"), "plaintext on the wire");
    ensure!(
        trace.packets_on_port(7001) == 0,
        "a connection went around the mesh"
    );
    Ok(())
}

/// Connects to the application from an address of the node; what a probe of kubelet's does.
fn probes(mesh: &Mesh, from: IpAddr, to: SocketAddr) -> Result<bool> {
    netns::within(mesh.lab.node(1)?.host.netns(), || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send(b"probe")?;
        let mut heard = [0; 5];
        let read = (&socket).read(&mut heard);
        Ok(read.is_ok_and(|read| read > 0))
    })?
}

#[test]
fn the_nodes_addresses_are_found_and_followed() -> Result<()> {
    let _one = serial();
    let lab_proc = tempfile::tempdir()?;
    let proc = lab_proc.path().to_string_lossy().into_owned();
    fs::create_dir_all(lab_proc.path().join("1/ns"))?;
    // The node's first process is in the node's network namespace, which is not there yet.
    let link = lab_proc.path().join("1/ns/net");
    let options = [("enrol", "kubernetes"), ("proc", &*proc)];
    let mut mesh = Mesh::prepare(1, &options, |node| Ok(symlink(node.host.netns(), &link)?))?;
    mesh.config.namespace("shop", true)?;
    mesh.config.peer_authentication("shop", "STRICT")?;
    let pod = mesh.add_enrolled(&PodSpec::named(1, "shop", "web"))?;
    let echo = Server::start(&pod, pod.v4.into(), 7001, &["echo"])?;
    let node = mesh.lab.node(1)?;
    ensure!(
        probes(&mesh, node.v4.into(), echo.address)?,
        "a probe from the node"
    );
    let further: IpAddr = "10.88.0.77".parse()?;
    let address = |verb: &str| {
        let netns = node.host.netns().to_string_lossy().into_owned();
        let netns = format!("--net={netns}");
        let cidr = format!("{further}/32");
        shell::run(&["nsenter", &netns, "ip", "address", verb, &cidr, "dev", "lo"]).map(drop)
    };
    address("add")?;
    wait::until_true("a probe from the new address", wait::DEADLINE, || {
        Ok(probes(&mesh, further, echo.address).unwrap_or(false))
    })?;
    Ok(())
}
