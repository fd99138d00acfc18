//! By what rules are found.
//!
//! A rule that names exact principals, accounts, namespaces, ports or source blocks can only match a
//! connection that has one of them. Such a set of values guards the rule: a table files the rule under
//! each value's hash and looks up the hashes of the connection. Two values of one hash cost an evaluation
//! and change nothing, because a rule that is found is still evaluated in full.

use ipnet::IpNet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use super::matches::{Match, Rule, StringMatch};
use super::{Connection, PolicyAction};

/// The kinds of values that guard rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Principal,
    /// There is no principal.
    Anonymous,
    Account,
    Source,
    Namespace,
    Port,
}

/// Every kind, the more selective ones first.
const KINDS: [Kind; 6] = [
    Kind::Principal,
    Kind::Anonymous,
    Kind::Account,
    Kind::Source,
    Kind::Namespace,
    Kind::Port,
];

/// One value that a rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) hash: u64,
    /// For [`Kind::Source`]: the length of the block, and whether it is IPv6.
    pub(super) block: Option<(bool, u8)>,
}

impl Key {
    fn new(kind: Kind, value: impl Hash) -> Self {
        let block = None;
        let hash = hash(kind, value);
        Self { kind, hash, block }
    }

    fn source(block: &IpNet) -> Self {
        let length = block.prefix_len();
        Self {
            block: Some((block.addr().is_ipv6(), length)),
            ..Self::new(Kind::Source, masked(block.addr(), length))
        }
    }
}

/// The hash is the same in every process, so that equal policies make equal tables.
fn hash(kind: Kind, value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind as u8).hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish()
}

/// The network of `length` bits that an address is in.
fn masked(ip: IpAddr, length: u8) -> (bool, u8, u128) {
    let (bits, all) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let rest = u32::saturating_sub(all, length.into());
    let keep = u128::MAX.checked_shl(rest).unwrap_or(0);
    (ip.is_ipv6(), length, bits & keep)
}

/// The sets of values of which each guards the rule. An empty set guards a rule that never matches.
pub(super) fn guards(rule: &Rule, action: PolicyAction) -> Vec<Vec<Key>> {
    let mut guards = Vec::new();
    for clause in &rule.clauses {
        let fails_open =
            clause.matches.is_empty() || clause.matches.iter().any(|m| m.not_understood);
        if fails_open && action != PolicyAction::Allow {
            continue;
        }
        for kind in KINDS {
            let mut keys = Vec::new();
            let mut possible = clause.matches.iter().filter(|m| !m.not_understood);
            if possible.all(|m| needs(m, kind, &mut keys)) {
                keys.sort_unstable_by_key(|key| (key.hash, key.block));
                keys.dedup();
                guards.push(keys);
            }
        }
    }
    guards
}

/// Adds the values of which a connection must have one; false when it need not have any.
fn needs(m: &Match, kind: Kind, keys: &mut Vec<Key>) -> bool {
    let mut exact = |strings: &[StringMatch]| {
        let key = |m: &StringMatch| match m {
            StringMatch::Exact(value) => Some(Key::new(kind, &**value)),
            _ => None,
        };
        let before = keys.len();
        keys.extend(strings.iter().map_while(key));
        !strings.is_empty() && keys.len() - before == strings.len()
    };
    match kind {
        Kind::Principal => exact(&m.principals),
        Kind::Namespace => exact(&m.namespaces),
        Kind::Anonymous => {
            keys.push(Key::new(kind, ()));
            m.not_principals.contains(&StringMatch::Presence)
        }
        Kind::Account => {
            let key = |m: &super::ServiceAccountMatch| {
                Key::new(kind, (&*m.namespace, &*m.service_account))
            };
            keys.extend(m.service_accounts.iter().map(key));
            !m.service_accounts.is_empty()
        }
        Kind::Source => {
            keys.extend(m.source_ips.iter().map(Key::source));
            !m.source_ips.is_empty()
        }
        Kind::Port => {
            keys.extend(m.destination_ports.iter().map(|port| Key::new(kind, port)));
            !m.destination_ports.is_empty()
        }
    }
}

/// What a connection has of each kind, as far as the tables ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    principal: u64,
    account: u64,
    namespace: u64,
    port: u64,
    source: IpAddr,
}

/// The kinds that a table has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) fn insert(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u8;
    }

    pub(super) fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Values {
    pub(super) fn of(conn: &Connection<'_>, kinds: Kinds) -> Self {
        let of = |kind: Kind, hash: &dyn Fn() -> u64| if kinds.contains(kind) { hash() } else { 0 };
        let known = |kind: Kind, value: &dyn Fn(&crate::identity::SpiffeId) -> u64| {
            of(kind, &|| conn.principal.map_or(0, value))
        };
        Self {
            principal: match conn.principal {
                None => of(Kind::Anonymous, &|| hash(Kind::Anonymous, ())),
                Some(id) => of(Kind::Principal, &|| hash(Kind::Principal, id.principal())),
            },
            account: known(Kind::Account, &|id| {
                hash(Kind::Account, (id.namespace(), id.service_account()))
            }),
            namespace: known(Kind::Namespace, &|id| hash(Kind::Namespace, id.namespace())),
            port: of(Kind::Port, &|| hash(Kind::Port, conn.destination.port())),
            source: conn.source.ip(),
        }
    }

    /// The hash of what the connection has of a kind, [`Kind::Source`] apart. What it has not, no rule is
    /// filed under, or it is evaluated in vain.
    pub(super) fn get(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Principal | Kind::Anonymous => self.principal,
            Kind::Account => self.account,
            Kind::Namespace => self.namespace,
            Kind::Port => self.port,
            Kind::Source => 0,
        }
    }

    pub(super) fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The hash of the block of `length` bits that the source is in.
    pub(super) fn block(&self, length: u8) -> u64 {
        hash(Kind::Source, masked(self.source, length))
    }
}
