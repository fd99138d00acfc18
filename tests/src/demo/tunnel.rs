//! Rows about what the mesh carries: same node, cross node, services, several protocols, the client's
//! address.

use super::report::{Report, Row};
use super::world::{DB_VIP, Link, REDIS_VIP, WEB_VIP, Web, World, http, needle, vip};
use crate::apps::{curl, psql, redis_cli};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const SPREAD: usize = 24;

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let to = world.web1.pod.key();
    let row = Row::new(
        "allowed, same node",
        &world.frontend,
        &to,
        "HTTP GET",
        "200",
    );
    report.row(row, |row| {
        let server = http(&world.web1.pod);
        get(world, row, |world| &world.web1, server, Link::Web1)
    });

    let to = world.web2.pod.key();
    let row = Row::new(
        "allowed, cross node",
        &world.frontend,
        &to,
        "HTTP GET",
        "200",
    );
    report.row(row, |row| {
        let server = http(&world.web2.pod);
        get(world, row, |world| &world.web2, server, Link::Wire)
    });

    let asked = format!("{SPREAD} HTTP GETs");
    let row = Row::new(
        "service VIP, both backends",
        &world.frontend,
        "shop/web (VIP)",
        &asked,
        "both answer",
    );
    report.row(row, |row| spread(world, row));

    let row = Row::new(
        "PostgreSQL",
        &world.frontend,
        "shop/db (VIP)",
        "SELECT of a word",
        "the word",
    );
    report.row(row, |row| postgres(world, row));

    let row = Row::new(
        "Redis",
        &world.frontend,
        "shop/redis (VIP)",
        "SET, then GET",
        "the word",
    );
    report.row(row, |row| redis(world, row));

    let row = Row::new(
        "the client's true address",
        &world.frontend,
        "shop/web-1, shop/web-2",
        "HTTP GET, IPv4 and IPv6",
        "curl's own address and port in nginx's log",
    );
    report.row(row, |row| true_address(world, row));
}

/// The frontend gets a page; it must come from this server, through the tunnel.
pub(super) fn get(
    world: &mut World,
    row: &mut Row,
    server: impl Fn(&World) -> &Web,
    address: SocketAddr,
    link: Link,
) -> Result<()> {
    let word = needle();
    let watch = world.watch(&world.frontend, &server(world).pod)?;
    let (key, secret) = (server(world).pod.key(), server(world).nginx.secret.clone());
    let answer = curl(&world.frontend, address, &format!("/{word}"))?;
    row.got = format!("{} from {}", answer.status, answered_by(&answer.body));
    row.must(
        answer.status == 200,
        format!("the status is {}", answer.status),
    );
    row.must(
        answer.body.contains(&word),
        "the answer is not to this request",
    );
    row.must(
        answer.body.contains(&secret),
        format!("the answer does not come from {key}"),
    );
    world.must_be_sealed(row, link, &[&word, &secret])?;
    let (outbound, inbound) = (watch.outbound()?, watch.inbound()?);
    row.take(&inbound);
    row.must(
        inbound.is_mutual_tls(),
        "the server's agent did not see mutual TLS",
    );
    row.must(
        outbound.src_identity == inbound.src_identity,
        "the agents name different clients",
    );
    row.must(
        outbound.dst_identity == inbound.dst_identity,
        "the agents name different servers",
    );
    let principal = inbound.src_identity.unwrap_or_default();
    row.must(
        principal.ends_with("/ns/shop/sa/frontend"),
        format!("the client is {principal:?}"),
    );
    Ok(())
}

fn spread(world: &mut World, row: &mut Row) -> Result<()> {
    let address = SocketAddr::new(vip(WEB_VIP)[0], 80);
    let watch = world.watch(&world.frontend, &world.web2.pod)?;
    let mut answers = BTreeMap::<String, usize>::new();
    let word = needle();
    for _ in 0..SPREAD {
        let answer = curl(&world.frontend, address, &format!("/{word}"))?;
        ensure!(
            answer.status == 200,
            "a request got the status {}",
            answer.status
        );
        *answers.entry(answered_by(&answer.body)).or_default() += 1;
    }
    let shares: Vec<String> = answers
        .iter()
        .map(|(who, n)| format!("{who} {n} times"))
        .collect();
    row.got = shares.join(", ");
    let both = [world.web1.pod.key(), world.web2.pod.key()];
    row.must(
        answers.keys().eq(&both),
        "not exactly both backends answered",
    );
    let secret = world.web2.nginx.secret.clone();
    world.must_be_sealed(row, Link::Wire, &[&word, &secret])?;
    let outbound = watch.outbound()?;
    row.take(&outbound);
    let service = outbound.dst_service.unwrap_or_default();
    row.must(
        service.starts_with("web.shop."),
        format!("the service is {service:?}"),
    );
    Ok(())
}

fn postgres(world: &mut World, row: &mut Row) -> Result<()> {
    let word = needle();
    let watch = world.watch(&world.frontend, &world.db)?;
    let address = SocketAddr::new(vip(DB_VIP)[0], 5432);
    // The answer is a word that the question does not contain.
    let answer: String = word.chars().rev().collect();
    let output = psql(
        &world.frontend,
        address,
        &format!("SELECT reverse('{word}')"),
    )?;
    ensure!(output.success(), "psql: {}", output.summary());
    row.got = if output.stdout.trim() == answer {
        "the word"
    } else {
        "something else"
    }
    .into();
    row.must(
        output.stdout.trim() == answer,
        format!("psql printed {:?}", output.stdout),
    );
    world.must_be_sealed(row, Link::Wire, &[&word, &answer])?;
    let inbound = watch.inbound()?;
    row.take(&inbound);
    row.must(
        inbound.is_mutual_tls(),
        "the server's agent did not see mutual TLS",
    );
    Ok(())
}

fn redis(world: &mut World, row: &mut Row) -> Result<()> {
    let word = needle();
    let watch = world.watch(&world.frontend, &world.redis)?;
    let address = SocketAddr::new(vip(REDIS_VIP)[0], 6379);
    let set = redis_cli(&world.frontend, address, &["SET", "word", &word])?;
    ensure!(
        set.success(),
        "redis-cli SET: {}{}",
        set.stdout,
        set.summary()
    );
    let got = redis_cli(&world.frontend, address, &["GET", "word"])?;
    ensure!(
        got.success(),
        "redis-cli GET: {}{}",
        got.stdout,
        got.summary()
    );
    row.got = if got.stdout.trim() == word {
        "the word"
    } else {
        "something else"
    }
    .into();
    row.must(
        got.stdout.trim() == word,
        format!("redis-cli printed {:?}", got.stdout),
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

fn true_address(world: &mut World, row: &mut Row) -> Result<()> {
    let mut seen = Vec::new();
    for web in [&world.web1, &world.web2] {
        for address in web.pod.addresses() {
            let word = needle();
            let watch = world.watch(&world.frontend, &web.pod)?;
            let answer = curl(
                &world.frontend,
                SocketAddr::new(address, 80),
                &format!("/{word}"),
            )?;
            let logged = web.nginx.request(&word)?;
            let logged = SocketAddr::new(logged.address, logged.port);
            let own = world.frontend.addresses().contains(&logged.ip());
            row.must(
                own,
                format!("{} logged {logged}, not the frontend", web.pod.key()),
            );
            row.must(
                logged == answer.local,
                format!(
                    "{} logged {logged}, curl was at {}",
                    web.pod.key(),
                    answer.local
                ),
            );
            seen.push(logged.to_string());
            row.take(&watch.inbound()?);
        }
    }
    row.got = "as expected".into();
    if !row.problems.is_empty() {
        row.got = "another address".into();
    }
    row.saw(format!("nginx logged {}", seen.join(", ")));
    Ok(())
}

/// Which pod says that it answered.
pub(super) fn answered_by(body: &str) -> String {
    body.split(' ').nth(1).unwrap_or("nobody").to_owned()
}
