//! Random policies and connections from a small world, so that many conditions hold and many nearly do.

use mesh_common::identity::SpiffeId;
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};
use mesh_common::proto::workload::Extension;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _};
use std::net::{IpAddr, SocketAddr};

use crate::reference::Stated;

pub(crate) const NAMESPACES: [&str; 3] = ["shop", "ops", "shopping"];
const DOMAINS: [&str; 2] = ["cluster.local", "old.example"];
const ACCOUNTS: [&str; 3] = ["web", "db", "shop"];
const PORTS: [u16; 4] = [80, 443, 8080, 15008];
const ADDRESSES: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.1.0.1",
    "192.168.0.1",
    "fd00::1",
    "fd00:1::1",
];

/// What a connection is made of; the identity is kept beside it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) principal: Option<SpiffeId>,
}

pub(crate) fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    *from.choose(rng).expect("a choice")
}

pub(crate) fn chance(rng: &mut StdRng, one_in: u32) -> bool {
    rng.next_u32().is_multiple_of(one_in)
}

pub(crate) fn facts(rng: &mut StdRng) -> Facts {
    let address =
        |rng: &mut StdRng| -> IpAddr { pick(rng, &ADDRESSES).parse().expect("an address") };
    Facts {
        source: SocketAddr::new(address(rng), 40_000),
        destination: SocketAddr::new(address(rng), pick(rng, &PORTS)),
        principal: (!chance(rng, 4)).then(|| {
            format!("spiffe://{}", principal(rng))
                .parse()
                .expect("an identity")
        }),
    }
}

fn principal(rng: &mut StdRng) -> String {
    let (domain, namespace) = (pick(rng, &DOMAINS), pick(rng, &NAMESPACES));
    format!("{domain}/ns/{namespace}/sa/{}", pick(rng, &ACCOUNTS))
}

/// Policies of different names, in no order.
pub(crate) fn policies(rng: &mut StdRng) -> Vec<Stated> {
    let count = rng.random_range(0..7);
    (0..count).map(|n| policy(rng, &format!("p{n}"))).collect()
}

pub(crate) fn policy(rng: &mut StdRng, name: &str) -> Stated {
    let scopes = [
        Scope::Global,
        Scope::Namespace,
        Scope::Namespace,
        Scope::WorkloadSelector,
    ];
    let actions = [Action::Allow, Action::Allow, Action::Deny];
    let policy = Authorization {
        name: name.into(),
        namespace: pick(rng, &NAMESPACES[..2]).into(),
        scope: pick(rng, &scopes).into(),
        action: pick(rng, &actions).into(),
        rules: list(rng, 3, rule),
        dry_run: chance(rng, 6),
        extensions: Vec::new(),
    };
    let audit = chance(rng, 8);
    Stated { policy, audit }
}

fn list<T>(rng: &mut StdRng, most: usize, make: impl Fn(&mut StdRng) -> T) -> Vec<T> {
    let count = rng.random_range(0..=most);
    (0..count).map(|_| make(rng)).collect()
}

fn rule(rng: &mut StdRng) -> Rule {
    let clause = |rng: &mut StdRng| {
        let mut matches = list(rng, 2, condition);
        // Mostly at least one: a clause without any is not understood.
        if !chance(rng, 20) {
            matches.push(condition(rng));
        }
        Clause { matches }
    };
    Rule {
        clauses: list(rng, 2, clause),
    }
}

fn condition(rng: &mut StdRng) -> Match {
    let mut m = Match::default();
    if chance(rng, 40) {
        return m;
    }
    for _ in 0..rng.random_range(1..4) {
        match rng.random_range(0..12) {
            0 => m.principals = some(rng, |rng| string(rng, principal)),
            1 => m.not_principals = some(rng, |rng| string(rng, principal)),
            2 => m.namespaces = some(rng, |rng| string(rng, namespace)),
            3 => m.not_namespaces = some(rng, |rng| string(rng, namespace)),
            4 => m.service_accounts = some(rng, account),
            5 => m.not_service_accounts = some(rng, account),
            6 => m.source_ips = some(rng, block),
            7 => m.not_source_ips = some(rng, block),
            8 => m.destination_ips = some(rng, block),
            9 => m.not_destination_ips = some(rng, block),
            10 => m.destination_ports = some(rng, |rng| pick(rng, &PORTS).into()),
            _ => m.not_destination_ports = some(rng, |rng| pick(rng, &PORTS).into()),
        }
    }
    if chance(rng, 60) {
        m.extensions.push(Extension::default());
    }
    m
}

fn some<T>(rng: &mut StdRng, make: impl Fn(&mut StdRng) -> T) -> Vec<T> {
    let count = rng.random_range(1..4);
    (0..count).map(|_| make(rng)).collect()
}

fn namespace(rng: &mut StdRng) -> String {
    pick(rng, &NAMESPACES).into()
}

fn string(rng: &mut StdRng, value: impl Fn(&mut StdRng) -> String) -> StringMatch {
    let value = value(rng);
    let cut = rng.random_range(0..=value.len());
    let match_type = match rng.random_range(0..40) {
        0 => None,
        1..4 => Some(MatchType::Presence(())),
        4..12 => Some(MatchType::Prefix(value[..cut].into())),
        12..20 => Some(MatchType::Suffix(value[cut..].into())),
        _ => Some(MatchType::Exact(value)),
    };
    StringMatch { match_type }
}

fn account(rng: &mut StdRng) -> ServiceAccountMatch {
    let mut account = ServiceAccountMatch {
        namespace: namespace(rng),
        service_account: pick(rng, &ACCOUNTS).into(),
    };
    if chance(rng, 40) {
        account.namespace.clear();
    }
    account
}

fn block(rng: &mut StdRng) -> Address {
    let address: IpAddr = pick(rng, &ADDRESSES).parse().expect("an address");
    let (address, bits) = match address {
        IpAddr::V4(ip) => (ip.octets().to_vec(), 32),
        IpAddr::V6(ip) => (ip.octets().to_vec(), 128),
    };
    let length = match chance(rng, 2) {
        true => bits,
        false => rng.random_range(0..=bits),
    };
    Address { address, length }
}
