//! What is refused before it is there: never what the decision would allow or report, and where no condition
//! names an address, exactly what it would deny.

use mesh_common::policy::{Connection, Reports, decide, refused_in_clear, report};
use mesh_common::proto::security::{Address, Match};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::net::{IpAddr, SocketAddr};

use crate::properties::World;
use crate::random;

const SETS: u64 = 25_000;
/// Connections for each set.
const CONNECTIONS: usize = 6;

fn conditions(world: &mut World) -> impl Iterator<Item = &mut Match> {
    let rules = world.policies.iter_mut().flat_map(|p| &mut p.policy.rules);
    let clauses = rules.flat_map(|rule| &mut rule.clauses);
    clauses.flat_map(|clause| &mut clause.matches)
}

/// Blocks that cover all addresses, those of one family, or neither.
fn wide(rng: &mut StdRng, m: &mut Match) {
    let whole = |bytes: usize| Address {
        address: vec![0; bytes],
        length: 0,
    };
    let blocks = match rng.random_range(0..4) {
        0 => vec![whole(4)],
        1 => vec![whole(16)],
        _ => vec![whole(4), whole(16)],
    };
    match rng.random_range(0..4) {
        0 => m.source_ips = blocks,
        1 => m.not_source_ips = blocks,
        2 => m.destination_ips = blocks,
        _ => m.not_destination_ips = blocks,
    }
}

/// The address, or the same one as an IPv6 socket shows it.
fn as_seen(rng: &mut StdRng, address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if random::chance(rng, 3) => ip.to_ipv6_mapped().into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[test]
fn nothing_is_refused_that_would_be_allowed_or_reported() {
    let (mut refused, mut exceptions) = (0, 0);
    for seed in 0..SETS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::random(&mut rng);
        for m in conditions(&mut world) {
            if random::chance(&mut rng, 6) {
                wide(&mut rng, m);
            }
        }
        let index = world.index();
        let policies = index.of(world.namespace, &world.names());
        let found = refused_in_clear(&policies);
        exceptions += found.exceptions().len();
        for _ in 0..CONNECTIONS {
            let facts = random::facts(&mut rng);
            let port = match random::chance(&mut rng, 4) {
                true => rng.random(),
                false => facts.destination.port(),
            };
            let conn = Connection {
                source: as_seen(&mut rng, facts.source),
                destination: as_seen(&mut rng, SocketAddr::new(facts.destination.ip(), port)),
                principal: None,
            };
            let by_exceptions = match found.exceptions().get(&port) {
                Some(exception) => *exception,
                None => found.others(),
            };
            assert_eq!(by_exceptions, found.get(port), "seed {seed}, {conn:?}");
            if let Some(verdict) = found.get(port) {
                refused += 1;
                let decided = decide(&policies, &conn);
                assert!(!decided.is_allow(), "seed {seed}, {conn:?}: {verdict}");
                assert_eq!(report(&policies, &conn), Reports::default(), "seed {seed}");
            }
        }
    }
    // Else the above says nothing.
    assert!(refused > 20_000, "only {refused} connections refused");
    assert!(exceptions > 1_000, "only {exceptions} exceptions");
}

#[test]
fn where_no_condition_names_an_address_all_is_refused_that_would_be_denied() {
    let (mut refused, mut allowed) = (0, 0);
    for seed in 0..SETS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::random(&mut rng);
        for policy in &mut world.policies {
            (policy.policy.dry_run, policy.audit) = (false, false);
        }
        for m in conditions(&mut world) {
            m.source_ips.clear();
            m.not_source_ips.clear();
            m.destination_ips.clear();
            m.not_destination_ips.clear();
        }
        let index = world.index();
        let policies = index.of(world.namespace, &world.names());
        let found = refused_in_clear(&policies);
        for _ in 0..CONNECTIONS {
            let facts = random::facts(&mut rng);
            let conn = Connection {
                source: facts.source,
                destination: facts.destination,
                principal: None,
            };
            let decided = decide(&policies, &conn);
            let expected = (!decided.is_allow()).then_some(&decided);
            let verdict = found.get(facts.destination.port());
            assert_eq!(verdict, expected, "seed {seed}, {conn:?}");
            match verdict {
                Some(_) => refused += 1,
                None => allowed += 1,
            }
        }
    }
    assert!(refused > 20_000 && allowed > 20_000, "{refused}, {allowed}");
}
