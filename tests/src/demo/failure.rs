//! Rows about an agent that is killed: nothing gets around it, and it takes up where it was.

use super::report::{Report, Row};
use super::tunnel::get;
use super::world::{Link, World, http, needle};
use crate::apps::curl_fails;
use anyhow::Result;

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let killed = world.mesh.agent_mut(1).and_then(crate::agent::Agent::kill);
    let row = Row::new(
        "agent killed: its pods cannot send",
        &world.frontend,
        "shop/web-2",
        "HTTP GET",
        "refused, nothing in clear",
    );
    report.row(row, |row| {
        killed?;
        let word = needle();
        let outcome = curl_fails(&world.frontend, http(&world.web2.pod), &format!("/{word}"));
        row.got = if outcome.is_ok() {
            "refused"
        } else {
            "answered"
        }
        .into();
        row.saw(outcome?);
        world.must_be_absent(row, &[&word])
    });

    let row = Row::new(
        "agent killed: its pods cannot be reached",
        &world.plain.pod,
        "shop/web-1",
        "HTTP GET",
        "refused",
    );
    report.row(row, |row| {
        let outcome = curl_fails(
            &world.plain.pod,
            http(&world.web1.pod),
            &format!("/{}", needle()),
        );
        row.got = if outcome.is_ok() {
            "refused"
        } else {
            "answered"
        }
        .into();
        row.saw(outcome?);
        let secret = world.web1.nginx.secret.clone();
        world.must_be_absent(row, &[&secret])
    });

    let row = Row::new(
        "agent restarted",
        &world.frontend,
        "shop/web-2",
        "HTTP GET, no pod enrolled again",
        "200, sealed",
    );
    report.row(row, |row| restarted(world, row));
}

fn restarted(world: &mut World, row: &mut Row) -> Result<()> {
    world.mesh.agent_mut(1)?.restart()?;
    let server = http(&world.web2.pod);
    get(world, row, |world| &world.web2, server, Link::Wire)
}
