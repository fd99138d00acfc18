//! Rows about a pod that leaves the mesh: from then on it is an ordinary pod, and nothing stays in it.

use super::plaintext::{in_clear, refused};
use super::report::{Report, Row};
use super::world::{HBONE, Link, World, http, needle};
use crate::apps::curl;
use crate::mesh::PodSpec;
use crate::netns;
use crate::topology::Pod;
use anyhow::{Context as _, Result};

/// The agent's listeners inside a pod.
const LISTENERS: [u16; 3] = [15001, 15006, HBONE];

const LEAVER: PodSpec<'_> = PodSpec {
    node: 1,
    namespace: "shop",
    name: "leaver",
    account: "frontend",
    app: "leaver",
    labels: &[],
};

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let leaver = world.mesh.add_enrolled(&LEAVER);
    let from = match &leaver {
        Ok(pod) => pod.clone(),
        // The rows that need the pod say why it is not there.
        Err(_) => world.frontend.clone(),
    };
    if leaver.is_ok() {
        world.remember(&from);
    }
    let mut leaver = Some(leaver);
    let row = Row::new(
        "before it leaves",
        &from,
        "open/site",
        "HTTP GET",
        "200, sealed",
    );
    report.row(row, |row| {
        let pod = leaver.take().context("tried once")??;
        before(world, row, &pod)
    });

    let row = Row::new(
        "an un-enrol takes effect",
        &from,
        "open/site",
        "HTTP GET",
        "200 in clear",
    );
    report.row(row, |row| after(world, row, &from));

    let row = Row::new(
        "un-enrolled, under STRICT",
        &from,
        "shop/web-2",
        "HTTP GET",
        "refused",
    );
    report.row(row, |row| refused(world, row, &from, |world| &world.web2));
}

fn before(world: &mut World, row: &mut Row, pod: &Pod) -> Result<()> {
    let watch = world.watch(pod, &world.open.pod)?;
    let word = needle();
    let answer = curl(pod, http(&world.open.pod), &format!("/{word}"))?;
    row.got = format!(
        "{} from {}",
        answer.status,
        super::tunnel::answered_by(&answer.body)
    );
    row.must(
        answer.status == 200,
        format!("the status is {}", answer.status),
    );
    let ports = netns::listening(pod.place.netns())?;
    row.must(
        LISTENERS.iter().all(|port| ports.contains(port)),
        format!("it listens on {ports:?}"),
    );
    world.must_be_sealed(row, Link::Wire, &[&word])?;
    let inbound = watch.inbound()?;
    row.take(&inbound);
    row.must(
        inbound.is_mutual_tls(),
        "the server's agent did not see mutual TLS",
    );
    Ok(())
}

fn after(world: &mut World, row: &mut Row, pod: &Pod) -> Result<()> {
    let out = PodSpec {
        labels: &[("istio.io/dataplane-mode", "none")],
        ..LEAVER
    };
    world.mesh.describe(pod, &out)?;
    world.mesh.agent(pod.node)?.unenroll(pod)?;
    let watch = world.watch(pod, &world.open.pod)?;
    in_clear(world, row, pod, |world| &world.open)?;
    let inbound = watch.inbound()?;
    row.take(&inbound);
    row.must(
        inbound.src_identity.is_none(),
        "the agent names an identity for plaintext",
    );
    let outbound = watch
        .all()?
        .iter()
        .any(|entry| entry.direction == "outbound");
    row.must(!outbound, "the agent still captured the connection");
    let ports = netns::listening(pod.place.netns())?;
    row.must(
        ports.is_empty(),
        format!("the pod still listens on {ports:?}"),
    );
    row.saw("no listener is left in the pod");
    Ok(())
}
