//! Rows about IPv6.

use super::report::{Report, Row};
use super::tunnel::{answered_by, get};
use super::world::{Link, WEB_VIP, World, needle, vip};
use crate::apps::curl;
use std::net::SocketAddr;

pub(super) fn rows(world: &mut World, report: &mut Report) {
    let to = world.web2.pod.key();
    let row = Row::new(
        "IPv6, cross node",
        &world.frontend,
        &to,
        "HTTP GET over IPv6",
        "200",
    );
    report.row(row, |row| {
        let server = SocketAddr::new(world.web2.pod.v6.into(), 80);
        get(world, row, |world| &world.web2, server, Link::Wire)
    });

    let asked = "HTTP GET over IPv6";
    let row = Row::new(
        "IPv6, service VIP",
        &world.frontend,
        "shop/web (VIP)",
        asked,
        "200",
    );
    report.row(row, |row| {
        let word = needle();
        let marks = [&world.web1.pod, &world.web2.pod].map(|pod| world.watch(&world.frontend, pod));
        let answer = curl(
            &world.frontend,
            SocketAddr::new(vip(WEB_VIP)[1], 80),
            &format!("/{word}"),
        )?;
        let who = answered_by(&answer.body);
        row.got = format!("{} from {who}", answer.status);
        row.must(
            answer.status == 200,
            format!("the status is {}", answer.status),
        );
        row.must(
            answer.body.contains(&word),
            "the answer is not to this request",
        );
        world.must_be_absent(row, &[&word])?;
        let [first, second] = marks;
        let watch = if who == world.web1.pod.key() {
            first?
        } else {
            second?
        };
        let inbound = watch.inbound()?;
        row.take(&inbound);
        row.must(
            inbound.is_mutual_tls(),
            "the server's agent did not see mutual TLS",
        );
        Ok(())
    });
}
