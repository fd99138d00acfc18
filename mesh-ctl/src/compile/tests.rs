//! Whatever changes in whatever order, the result is that of compiling what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Compiler, Options, compile};
use crate::model::{Action, Labels, Rule, Term};
use crate::model::{
    AuthorizationPolicy, Change, Endpoint, EndpointSlice, Locality, Meta, Mode, Namespace, Node,
    Object, ObjectName, Objects, Owner, PeerAuthentication, Pod, Service, ServicePort, Target,
};
use crate::resources::{Compiled, Identity, Kind, World};

const CASES: u64 = 2000;
const STEPS: u64 = 12;

fn options() -> Options {
    Options {
        cluster_id: "c".into(),
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: Vec::new(),
        root_namespace: "root".into(),
        dataplane_label: "mesh".into(),
        dataplane_value: "on".into(),
    }
}

/// A few of everything, so that things meet.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }

    fn name(&mut self, count: u64) -> ObjectName {
        let namespace = *self.pick(&["root", "a", "b"]);
        ObjectName::new(namespace, &format!("o{}", self.roll(count)))
    }

    fn labels(&mut self) -> Labels {
        let mut labels = Labels::new();
        for key in ["app", "tier"] {
            if !self.one_in(4) {
                labels.insert(key.into(), format!("v{}", self.roll(3)));
            }
        }
        if self.one_in(8) {
            labels.insert("mesh".into(), (*self.pick(&["on", "off"])).into());
        }
        labels
    }

    fn selector(&mut self) -> Option<Labels> {
        let selector = self.labels();
        (!selector.is_empty() && !self.one_in(4)).then_some(selector)
    }

    fn meta(&mut self, name: ObjectName) -> Meta {
        let created = (!self.one_in(3)).then(|| self.roll(3) as i64);
        Meta {
            name,
            labels: self.labels(),
            created,
        }
    }

    fn address(&mut self) -> IpAddr {
        match self.one_in(5) {
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, self.roll(3) as u16]),
            false => IpAddr::from([10, 0, 0, self.roll(6) as u8]),
        }
    }

    fn addresses(&mut self) -> Vec<IpAddr> {
        let count = self.roll(3);
        let all: BTreeSet<IpAddr> = (0..count).map(|_| self.address()).collect();
        all.into_iter().collect()
    }

    fn mode(&mut self) -> Mode {
        *self.pick(&[Mode::Unset, Mode::Strict, Mode::Permissive, Mode::Disable])
    }

    fn change(&mut self) -> Change {
        let kind = self.roll(20);
        let gone = self.one_in(4);
        let cluster_wide = |name: &str| ObjectName::new("", name);
        let object = match kind {
            0..=6 => {
                let name = self.name(4);
                Object::Pod(Box::new(self.pod(name)))
            }
            7..=9 => {
                let name = self.name(3);
                Object::Service(Box::new(self.service(name)))
            }
            10..=12 => {
                let name = self.name(3);
                Object::EndpointSlice(Box::new(self.slice(name)))
            }
            13 | 14 => {
                let name = self.name(2);
                Object::AuthorizationPolicy(Box::new(self.policy(name)))
            }
            15..=17 => {
                let name = self.name(3);
                let meta = self.meta(name);
                let selector = self.selector();
                let ports = match selector.is_some() && self.one_in(2) {
                    true => [(80, self.mode())].into(),
                    false => BTreeMap::new(),
                };
                Object::PeerAuthentication(Box::new(PeerAuthentication {
                    meta,
                    selector,
                    mode: self.mode(),
                    ports,
                }))
            }
            18 => {
                let name = cluster_wide(self.pick::<&str>(&["root", "a", "b"]));
                Object::Namespace(Namespace {
                    meta: self.meta(name),
                })
            }
            _ => {
                let name = cluster_wide(self.pick::<&str>(&["n0", "n1"]));
                Object::Node(Node {
                    meta: self.meta(name),
                    locality: Locality {
                        zone: format!("z{}", self.roll(2)),
                        ..Locality::default()
                    },
                })
            }
        };
        match gone {
            true => {
                let (kind, name) = object.identity();
                Change::Removed(kind, name.clone())
            }
            false => Change::Set(object),
        }
    }

    fn pod(&mut self, name: ObjectName) -> Pod {
        Pod {
            meta: self.meta(name),
            service_account: Arc::from(*self.pick(&["sa", "sb"])),
            node: Arc::from(*self.pick(&["n0", "n1", ""])),
            host_network: self.one_in(6),
            addresses: self.addresses(),
            ready: !self.one_in(4),
            terminating: self.one_in(5),
            finished: self.one_in(8),
            owner: self.one_in(3).then(|| Owner {
                kind: "ReplicaSet".into(),
                name: "web-bcdfg".into(),
            }),
            ports: match self.one_in(2) {
                true => [("http".to_owned(), 8080)].into(),
                false => BTreeMap::new(),
            },
            declared_ports: [8080].into(),
        }
    }

    fn service(&mut self, name: ObjectName) -> Service {
        let named = self.one_in(2);
        Service {
            meta: self.meta(name),
            addresses: self.addresses(),
            headless: self.one_in(2),
            ports: vec![ServicePort {
                name: (*self.pick(&["", "web"])).into(),
                port: 80 + self.roll(2) as u16,
                target: match named {
                    true => Target::Named("http".into()),
                    false => Target::Number(8000),
                },
            }],
            selector: self.selector(),
            publish_not_ready: self.one_in(3),
            local_only: self.one_in(3),
            distribution: None,
        }
    }

    fn slice(&mut self, name: ObjectName) -> EndpointSlice {
        let service = ObjectName::new(&name.namespace, &format!("o{}", self.roll(3)));
        let count = self.roll(3);
        let endpoint = |dice: &mut Self| Endpoint {
            addresses: vec![dice.address()],
            ready: !dice.one_in(3),
            serving: true,
            terminating: dice.one_in(5),
            pod: None,
            node: Arc::from(*dice.pick(&["n0", ""])),
            zone: Arc::from(*dice.pick(&["z9", ""])),
        };
        EndpointSlice {
            meta: self.meta(name),
            service,
            ipv6: false,
            endpoints: (0..count).map(|_| endpoint(self)).collect(),
            ports: match self.roll(3) {
                0 => [(String::new(), Some(81))].into(),
                1 => [("web".to_owned(), None)].into(),
                _ => BTreeMap::new(),
            },
        }
    }

    fn policy(&mut self, name: ObjectName) -> AuthorizationPolicy {
        let l7 = match self.one_in(3) {
            true => vec!["spec.rules[0].to[0].operation.paths".to_owned()],
            false => Vec::new(),
        };
        let l4 = mesh_common::proto::security::Match {
            destination_ports: vec![80],
            ..Default::default()
        };
        AuthorizationPolicy {
            meta: self.meta(name),
            selector: self.selector(),
            has_target: self.one_in(6),
            action: *self.pick(&[Action::Allow, Action::Deny, Action::Audit]),
            rules: vec![Rule {
                parts: vec![vec![Term { l4, l7 }]],
                has_from: false,
                has_to: true,
            }],
            dry_run: false,
        }
    }
}

/// The world as if it had been compiled at once.
fn shown(world: &World, warnings: BTreeSet<String>) -> Compiled {
    let table = |kind| {
        let all = world.table(kind).iter();
        all.map(|r| (Arc::clone(&r.name), (**r).clone())).collect()
    };
    let identities = world.identities().iter();
    Compiled {
        addresses: table(Kind::Address),
        policies: table(Kind::Authorization),
        identities: identities
            .map(|(identity, pods)| (Identity::clone(identity), pods))
            .collect(),
        warnings,
    }
}

/// The changes that lead to a difference; `None` when there is none.
fn difference(batches: &[Vec<Change>], replace_every: usize) -> Option<String> {
    let (mut compiler, mut objects) = (Compiler::new(options()), Objects::default());
    let mut world = World::default();
    let step = compiler.replace(Objects::default());
    world = world.next(step, Instant::now()).unwrap_or(world);
    for (i, batch) in batches.iter().enumerate() {
        objects.apply(batch.clone());
        let step = match (i + 1) % replace_every {
            0 => compiler.replace(objects.clone()),
            _ => compiler.change(batch.clone()),
        };
        world = world.next(step, Instant::now()).unwrap_or(world);
        let (got, expected) = (
            shown(&world, compiler.warnings()),
            compile(&objects, &options()),
        );
        if got != expected {
            return Some(format!("after batch {i}:\n{got:#?}\nis not\n{expected:#?}"));
        }
        for resource in world.table(Kind::Address).iter() {
            for alias in resource.aliases() {
                let found = world.table(Kind::Address).get(alias);
                let found = found.map(|resource| &resource.name);
                let named = |r: &&Arc<crate::resources::Resource>| r.aliases().any(|a| a == alias);
                let all = world.table(Kind::Address).iter().filter(named);
                let last = all.map(|resource| &resource.name).max();
                if found != last {
                    return Some(format!("{alias} leads to {found:?}, not {last:?}"));
                }
            }
        }
    }
    None
}

#[test]
fn every_sequence_of_changes_gives_what_a_full_compile_gives() {
    for seed in 1..=CASES {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let batches: Vec<Vec<Change>> = (0..STEPS)
            .map(|_| {
                let count = 1 + dice.roll(3);
                (0..count).map(|_| dice.change()).collect()
            })
            .collect();
        let replace_every = 2 + dice.roll(9) as usize;
        if difference(&batches, replace_every).is_none() {
            continue;
        }
        // Leaves out what is not needed for a difference.
        let mut fewest: Vec<Vec<Change>> = batches;
        let mut i = 0;
        while i < fewest.len() {
            let mut fewer = fewest.clone();
            fewer.remove(i);
            match difference(&fewer, replace_every) {
                Some(_) => fewest = fewer,
                None => i += 1,
            }
        }
        let what = difference(&fewest, replace_every).unwrap_or_default();
        panic!("seed {seed}, whole every {replace_every}: {fewest:#?}\n{what}");
    }
}
