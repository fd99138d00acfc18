//! Rows about pods that are not in the mesh. They send in clear, and the captures must show it: a
//! check that cannot see plaintext would prove nothing in the other rows.

use super::report::{Report, Row};
use super::world::{Web, World, http, needle};
use crate::apps::{curl, curl_fails};
use crate::topology::Pod;
use crate::wait;
use anyhow::Result;

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let row = Row::new(
        "plaintext under STRICT",
        &world.outsider,
        "shop/web-2",
        "HTTP GET",
        "refused",
    );
    report.row(row, |row| {
        let from = world.outsider.clone();
        refused(world, row, &from, |world| &world.web2)
    });

    let row = Row::new(
        "plaintext under PERMISSIVE",
        &world.outsider,
        "open/site",
        "HTTP GET",
        "200 in clear",
    );
    report.row(row, |row| {
        let from = world.outsider.clone();
        let watch = world.watch(&from, &world.open.pod)?;
        in_clear(world, row, &from, |world| &world.open)?;
        let inbound = watch.inbound()?;
        row.take(&inbound);
        row.must(!inbound.is_mutual_tls(), "the agent claims mutual TLS");
        row.must(
            inbound.src_identity.is_none(),
            "the agent names an identity for plaintext",
        );
        Ok(())
    });

    let row = Row::new(
        "outside the mesh, untouched",
        &world.outsider,
        "legacy/plain",
        "HTTP GET",
        "200 in clear, no agent involved",
    );
    report.row(row, |row| {
        let from = world.outsider.clone();
        let watch = world.watch(&from, &world.plain.pod)?;
        in_clear(world, row, &from, |world| &world.plain)?;
        row.must(watch.all()?.is_empty(), "an agent logged the connection");
        row.saw("no agent logged it");
        Ok(())
    });
}

/// The client must not get through; what only the server knows must not be on the wire.
pub(super) fn refused(
    world: &mut World,
    row: &mut Row,
    from: &Pod,
    server: impl Fn(&World) -> &Web,
) -> Result<()> {
    let pod = server(world).pod.clone();
    let by_policy = |world: &World| {
        let agent = world.mesh.agent(pod.node)?;
        agent.refused(&pod.namespace, &pod.name)
    };
    let before = by_policy(world)?;
    let word = needle();
    let outcome = curl_fails(from, http(&server(world).pod), &format!("/{word}"));
    row.got = if outcome.is_ok() {
        "refused"
    } else {
        "answered"
    }
    .into();
    row.saw(outcome?);
    let policy = wait::until("the refusal to be counted", wait::DEADLINE, || {
        let mut counted = by_policy(world)?.into_iter();
        Ok(counted.find(|(policy, count)| before.get(policy) != Some(count)))
    });
    let (policy, _) = policy?;
    row.saw(format!("refused in the kernel because of {policy}"));
    row.policy = Some(policy);
    let logged = server(world)
        .nginx
        .requests()?
        .iter()
        .any(|request| request.uri.contains(&word));
    row.must(!logged, "nginx saw the request");
    let secret = server(world).nginx.secret.clone();
    world.must_be_absent(row, &[&secret])
}

/// The client must get through, and its bytes must be on the wire as they are.
pub(super) fn in_clear(
    world: &mut World,
    row: &mut Row,
    from: &Pod,
    server: impl Fn(&World) -> &Web,
) -> Result<()> {
    let word = needle();
    let answer = curl(from, http(&server(world).pod), &format!("/{word}"))?;
    row.got = format!(
        "{} from {}",
        answer.status,
        super::tunnel::answered_by(&answer.body)
    );
    row.must(
        answer.status == 200,
        format!("the status is {}", answer.status),
    );
    let logged = server(world).nginx.request(&word)?;
    row.must(
        logged.address == from.v4,
        format!("nginx logged {}", logged.address),
    );
    let secret = server(world).nginx.secret.clone();
    row.must(answer.body.contains(&secret), "another server answered");
    world.must_be_clear(row, &[&word, &secret])
}
