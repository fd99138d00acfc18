//! What is found, against the decision: on random policies and pods, a rule that is called redundant,
//! unreachable or never matching is taken out, and every verdict stays.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Action as Verdict, Connection, decide, explain};
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{Match, ServiceAccountMatch, StringMatch};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::model::{
    Action, AuthorizationPolicy, Labels, Meta, Mode, Object, ObjectName, Objects,
    PeerAuthentication, Pod, Rule, Term,
};

const WORLDS: u64 = 2_000;
const CONNECTIONS: usize = 10;
const NAMESPACES: [&str; 3] = ["istio-system", "shop", "ops"];
const APPS: [&str; 2] = ["web", "db"];
const ACCOUNTS: [&str; 2] = ["web", "db"];
const PORTS: [u16; 2] = [80, 8080];
const BLOCKS: [(&str, u32); 3] = [("10.0.0.0", 8), ("10.0.0.0", 30), ("10.0.1.0", 24)];

struct Random(StdRng);

impl Random {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).unwrap()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n) == 0
    }

    fn some<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.0.random_range(1..3);
        (0..count).map(|_| make(self)).collect()
    }

    fn meta(&mut self, name: &str) -> Meta {
        let app = self.pick(&APPS);
        let tier = self.pick(&["front", "back"]);
        Meta {
            name: ObjectName::new(self.pick(&NAMESPACES), name),
            labels: [("app".into(), app.into()), ("tier".into(), tier.into())].into(),
            created: None,
        }
    }

    fn selector(&mut self) -> Option<Labels> {
        let app = self.pick(&APPS);
        let tier = self.pick(&["front", "back"]);
        match self.0.random_range(0..4) {
            0 => Some([("app".into(), app.into())].into()),
            1 => Some([("app".into(), app.into()), ("tier".into(), tier.into())].into()),
            _ => None,
        }
    }

    fn string(&mut self, value: String) -> StringMatch {
        let cut = self.0.random_range(0..=value.len());
        let match_type = match self.0.random_range(0..8) {
            0 => MatchType::Presence(()),
            1 => MatchType::Prefix(value[..cut].to_owned()),
            2 => MatchType::Suffix(value[cut..].to_owned()),
            _ => MatchType::Exact(value),
        };
        StringMatch {
            match_type: Some(match_type),
        }
    }

    fn principal(&mut self) -> String {
        let (namespace, account) = (self.pick(&NAMESPACES), self.pick(&ACCOUNTS));
        format!("cluster.local/ns/{namespace}/sa/{account}")
    }

    fn account(&mut self) -> ServiceAccountMatch {
        ServiceAccountMatch {
            namespace: self.pick(&NAMESPACES).into(),
            service_account: self.pick(&ACCOUNTS).into(),
        }
    }

    fn source(&mut self) -> Term {
        let mut m = Match::default();
        for _ in 0..self.0.random_range(1..3) {
            let principal = |this: &mut Self| {
                let value = this.principal();
                this.string(value)
            };
            let namespace = |this: &mut Self| {
                let value = this.pick(&NAMESPACES).to_owned();
                this.string(value)
            };
            let block = |this: &mut Self| {
                let (address, length) = this.pick(&BLOCKS);
                let address: std::net::Ipv4Addr = address.parse().unwrap();
                mesh_common::proto::security::Address {
                    address: address.octets().to_vec(),
                    length,
                }
            };
            match self.0.random_range(0..8) {
                0 => m.principals = self.some(principal),
                1 => m.not_principals = self.some(principal),
                2 => m.namespaces = self.some(namespace),
                3 => m.not_namespaces = self.some(namespace),
                4 => m.service_accounts = self.some(Self::account),
                5 => m.not_service_accounts = self.some(Self::account),
                6 => m.source_ips = self.some(block),
                _ => m.not_source_ips = self.some(block),
            }
        }
        self.term(m)
    }

    fn operation(&mut self) -> Term {
        let mut m = Match::default();
        let port = |this: &mut Self| u32::from(this.pick(&PORTS));
        match self.one_in(3) {
            true => m.not_destination_ports = self.some(port),
            false => m.destination_ports = self.some(port),
        }
        self.term(m)
    }

    fn term(&mut self, l4: Match) -> Term {
        let l7 = match self.one_in(20) {
            true => vec!["spec.rules[0].to[0].operation.methods".to_owned()],
            false => Vec::new(),
        };
        Term { l4, l7 }
    }

    fn rule(&mut self) -> Rule {
        let mut rule = Rule {
            has_from: !self.one_in(4),
            has_to: self.one_in(3),
            ..Rule::default()
        };
        if rule.has_from {
            rule.parts.push(self.some(Self::source));
        }
        if rule.has_to {
            rule.parts.push(self.some(Self::operation));
        }
        if self.one_in(4) {
            rule.parts.push(vec![self.source()]);
        }
        rule
    }

    fn policy(&mut self, n: usize) -> AuthorizationPolicy {
        let count = self.0.random_range(0..4);
        AuthorizationPolicy {
            meta: self.meta(&format!("p{n}")),
            selector: self.selector(),
            has_target: false,
            action: self.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Audit]),
            rules: (0..count).map(|_| self.rule()).collect(),
            dry_run: self.one_in(8),
        }
    }

    fn objects(&mut self) -> Objects {
        let mut objects = Objects::default();
        for n in 0..4_u8 {
            let mut meta = self.meta(&format!("pod{n}"));
            let enrolled = ("istio.io/dataplane-mode".to_owned(), "ambient".to_owned());
            meta.labels.extend([enrolled]);
            objects.insert(Object::Pod(Box::new(Pod {
                uid: String::new(),
                meta,
                service_account: self.pick(&ACCOUNTS).into(),
                node: "n".into(),
                host_network: false,
                addresses: vec![[10, 0, 0, n + 1].into()],
                ready: true,
                terminating: false,
                finished: false,
                owner: None,
                ports: Default::default(),
                declared_ports: [80].into(),
            })));
        }
        for n in 0..self.0.random_range(2..7) {
            let policy = self.policy(n);
            objects.insert(Object::AuthorizationPolicy(Box::new(policy)));
        }
        if self.one_in(3) {
            objects.insert(Object::PeerAuthentication(Box::new(PeerAuthentication {
                meta: self.meta("peer"),
                selector: self.selector(),
                mode: self.pick(&[Mode::Strict, Mode::Permissive]),
                ports: Default::default(),
            })));
        }
        objects
    }
}

fn mesh() -> MeshOptions {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        mesh: MeshOptions,
    }
    <Line as clap::Parser>::parse_from(["meshctl"]).mesh
}

/// The policy and the rule of a finding about a rule.
fn rule_of(found: &Finding) -> Option<(ObjectName, usize)> {
    let proven = [
        Code::NeverMatches,
        Code::UnreachableRule,
        Code::ShadowedRule,
        Code::PlaintextRefused,
    ];
    proven.contains(&found.code).then(|| {
        let name = found.object.strip_prefix("AuthorizationPolicy ").unwrap();
        let (namespace, name) = name.split_once('/').unwrap();
        let rule = found.field.strip_prefix("spec.rules[").unwrap();
        let rule = rule.strip_suffix(']').unwrap().parse().unwrap();
        (ObjectName::new(namespace, name), rule)
    })
}

fn without(objects: &Objects, gone: &[(ObjectName, usize)]) -> Offline {
    let mut objects = objects.clone();
    let mut gone = gone.to_vec();
    gone.sort();
    for (policy, rule) in gone.iter().rev() {
        let policy = objects.authorization_policies.get_mut(policy).unwrap();
        policy.rules.remove(*rule);
    }
    Offline::of(objects, &mesh()).unwrap()
}

fn verdict(offline: &Offline, pod: &ObjectName, facts: &Facts) -> Verdict {
    let workload = offline.snapshot.workload_by_name(&pod.namespace, &pod.name);
    let workload = workload.unwrap();
    let set = offline.snapshot.policies_for(workload);
    decide(&set, &facts.connection(workload)).action
}

struct Facts {
    source: SocketAddr,
    port: u16,
    principal: Option<SpiffeId>,
}

impl Facts {
    fn random(random: &mut Random) -> Self {
        let principal = random.principal();
        let known = !random.one_in(4);
        Self {
            source: SocketAddr::new(
                [
                    10,
                    random.pick(&[0, 1]),
                    random.pick(&[0, 1]),
                    random.pick(&[1, 9]),
                ]
                .into(),
                40_000,
            ),
            port: random.pick(&PORTS),
            principal: known.then(|| format!("spiffe://{principal}").parse().unwrap()),
        }
    }

    fn connection(&self, to: &Arc<mesh_common::workload::Workload>) -> Connection<'_> {
        Connection {
            source: self.source,
            destination: SocketAddr::new(to.addresses[0], self.port),
            principal: self.principal.as_ref(),
        }
    }
}

#[test]
fn a_rule_that_is_called_without_effect_has_none() {
    let (mut rules, mut cases) = ([0; 4], 0);
    for seed in 0..WORLDS {
        let random = &mut Random(StdRng::seed_from_u64(seed));
        let objects = random.objects();
        let offline = Offline::of(objects.clone(), &mesh()).unwrap();
        let found = check(&offline, &mesh());
        let mut gone: Vec<_> = found.iter().filter_map(rule_of).collect();
        gone.sort();
        gone.dedup();
        if gone.is_empty() {
            continue;
        }
        for (n, code) in [
            Code::NeverMatches,
            Code::UnreachableRule,
            Code::ShadowedRule,
            Code::PlaintextRefused,
        ]
        .into_iter()
        .enumerate()
        {
            rules[n] += found.iter().filter(|found| found.code == code).count();
        }
        // Each alone, and all of them.
        let mut fewer: Vec<_> = gone
            .iter()
            .map(|one| without(&objects, std::slice::from_ref(one)))
            .collect();
        fewer.push(without(&objects, &gone));
        for pod in objects.pods.keys() {
            for _ in 0..CONNECTIONS {
                let facts = Facts::random(random);
                let before = verdict(&offline, pod, &facts);
                for after in &fewer {
                    cases += 1;
                    let after = verdict(after, pod, &facts);
                    assert_eq!(before, after, "seed {seed}, {pod}: {found:#?}");
                }
            }
        }
    }
    assert!(cases > 50_000, "{cases} cases");
    assert!(
        rules[..3].iter().all(|n| *n > 100) && rules[3] > 0,
        "{rules:?}"
    );
}

#[test]
fn a_rule_that_is_called_never_matching_matches_nothing() {
    let mut cases = 0;
    for seed in 0..WORLDS {
        let random = &mut Random(StdRng::seed_from_u64(seed));
        let offline = Offline::of(random.objects(), &mesh()).unwrap();
        let found = check(&offline, &mesh());
        let never = found
            .iter()
            .filter(|found| found.code == Code::NeverMatches);
        for (policy, rule) in never.filter_map(rule_of) {
            for workload in offline.snapshot.workloads() {
                for _ in 0..CONNECTIONS {
                    let facts = Facts::random(random);
                    let set = offline.snapshot.policies_for(workload);
                    let explained = explain(&set, &facts.connection(workload));
                    let mut traces = explained.policies.iter();
                    let trace = traces.find(|trace| *trace.policy == *policy.to_string());
                    let Some(trace) = trace else {
                        continue;
                    };
                    cases += 1;
                    assert!(!trace.rules[rule].matched, "seed {seed}: {found:#?}");
                }
            }
        }
    }
    assert!(cases > 5_000, "{cases} cases");
}
