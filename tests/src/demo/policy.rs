//! Rows about AuthorizationPolicy: denied by name, and edits that take effect at once.

use super::report::{Report, Row};
use super::world::{DB_VIP, World, deny_frontend, http, needle, vip};
use crate::apps::{curl, curl_fails, psql, psql_session, redis_cli};
use crate::wait;
use anyhow::Result;
use std::net::SocketAddr;

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let row = Row::new(
        "denied by a DENY policy",
        &world.intruder,
        "shop/redis",
        "SET",
        "refused by shop/no-intruder",
    );
    report.row(row, |row| denied_by_deny(world, row));

    let row = Row::new(
        "denied, no ALLOW policy matches",
        &world.intruder,
        "shop/web-2",
        "HTTP GET",
        "refused by shop/web-callers",
    );
    report.row(row, |row| denied_by_allow(world, row));

    let row = Row::new(
        "a policy edit, new connections",
        &world.frontend,
        "shop/web-2",
        "HTTP GET before, with and after a DENY",
        "200, refused by shop/web-freeze, 200",
    );
    report.row(row, |row| {
        let result = edit_for_new(world, row);
        // Whatever came of it, the next row begins without this policy.
        let _already_gone = world.mesh.remove_policy("shop", "web-freeze");
        result
    });

    let row = Row::new(
        "a policy edit, a live connection",
        &world.frontend,
        "shop/db (VIP)",
        "a psql session, then a DENY",
        "cut by shop/db-freeze",
    );
    report.row(row, |row| {
        let result = edit_for_live(world, row);
        let _already_gone = world.mesh.remove_policy("shop", "db-freeze");
        result
    });
}

fn denied_by_deny(world: &mut World, row: &mut Row) -> Result<()> {
    let watch = world.watch(&world.intruder, &world.redis)?;
    let word = needle();
    let server = SocketAddr::new(world.redis.v4.into(), 6379);
    let output = redis_cli(&world.intruder, server, &["SET", "stolen", &word])?;
    row.got = if output.success() { "done" } else { "refused" }.into();
    row.must(!output.success(), "Redis obeyed the intruder");
    world.must_be_absent(row, &[&word])?;
    let inbound = watch.inbound()?;
    row.take(&inbound);
    row.must(inbound.is_denied(), "the server's agent did not say deny");
    must_name(row, "shop/no-intruder");
    row.saw(format!(
        "redis-cli: {}",
        output.stderr.lines().last().unwrap_or("failed").trim()
    ));
    Ok(())
}

fn denied_by_allow(world: &mut World, row: &mut Row) -> Result<()> {
    let watch = world.watch(&world.intruder, &world.web2.pod)?;
    let word = needle();
    let before = world.web2.nginx.requests()?.len();
    let outcome = curl_fails(&world.intruder, http(&world.web2.pod), &format!("/{word}"));
    row.got = if outcome.is_ok() {
        "refused"
    } else {
        "answered"
    }
    .into();
    row.saw(outcome?);
    let inbound = watch.inbound()?;
    row.take(&inbound);
    row.must(inbound.is_denied(), "the server's agent did not say deny");
    must_name(row, "shop/web-callers");
    let after = world.web2.nginx.requests()?.len();
    row.must(before == after, "nginx saw the request");
    row.saw("nginx logged nothing");
    let secret = world.web2.nginx.secret.clone();
    world.must_be_absent(row, &[&word, &secret])
}

fn edit_for_new(world: &mut World, row: &mut Row) -> Result<()> {
    let server = http(&world.web2.pod);
    let first = curl(&world.frontend, server, "/before")?.status;
    world
        .mesh
        .add_policy("shop", "web-freeze", &deny_frontend("web"))?;
    let watch = world.watch(&world.frontend, &world.web2.pod)?;
    let word = needle();
    let frozen = curl_fails(&world.frontend, server, &format!("/{word}"));
    let inbound = watch.inbound()?;
    world.mesh.remove_policy("shop", "web-freeze")?;
    let last = curl(&world.frontend, server, "/after")?.status;
    row.got = format!(
        "{first}, {}, {last}",
        if frozen.is_ok() {
            "refused"
        } else {
            "answered"
        }
    );
    row.must(
        first == 200 && last == 200,
        "without the policy the answer is not 200",
    );
    row.take(&inbound);
    must_name(row, "shop/web-freeze");
    row.saw(frozen?);
    world.must_be_absent(row, &[&word])
}

fn edit_for_live(world: &mut World, row: &mut Row) -> Result<()> {
    let server = SocketAddr::new(vip(DB_VIP)[0], 5432);
    let log = world.frontend.dir.join("live-psql.log");
    let watch = world.watch(&world.frontend, &world.db)?;
    let mut session = psql_session(&world.frontend, server, &log)?;
    session.write_line("SELECT 6 * 7;")?;
    session.ready("the first answer of the session", wait::DEADLINE, |log| {
        Ok(log.contains("42"))
    })?;
    world
        .mesh
        .add_policy("shop", "db-freeze", &deny_frontend("db"))?;
    // The session says nothing meanwhile: the line is there because the agent cut it.
    let inbound = watch.inbound();
    let word = needle();
    let asked = session.write_line(&format!("SELECT reverse('{word}');"));
    let answer: String = word.chars().rev().collect();
    let status = wait::until("the session to go on or to end", wait::DEADLINE, || {
        let answered = session.output().contains(&answer);
        Ok(session
            .exited()?
            .map(Some)
            .or_else(|| answered.then_some(None)))
    })?;
    let answered = session.output().contains(&answer);
    row.got = if answered { "went on" } else { "cut" }.into();
    row.must(!answered, "the live session was answered after the policy");
    let failed = asked.is_err() || status.is_some_and(|status| !status.success());
    row.must(failed, "psql did not fail");
    let inbound = inbound?;
    row.take(&inbound);
    must_name(row, "shop/db-freeze");
    row.must(inbound.is_denied(), "the server's agent did not say deny");
    row.saw(format!(
        "psql: {}",
        session.tail().lines().last().unwrap_or_default().trim()
    ));
    world.mesh.remove_policy("shop", "db-freeze")?;
    let again = psql(&world.frontend, server, "SELECT 1")?;
    row.must(
        again.success(),
        format!("without the policy psql fails: {}", again.summary()),
    );
    world.must_be_absent(row, &[&word])
}

fn must_name(row: &mut Row, policy: &str) {
    let named = row.policy.as_deref() == Some(policy);
    row.must(
        named,
        format!("the policy is {:?}, not {policy}", row.policy),
    );
}
