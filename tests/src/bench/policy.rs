//! What a policy decision costs, and whether it costs more when there are more policies.
//!
//! Of the policies, ten name each caller, or the only one does. In `decide-elsewhere` all but those of one
//! caller belong to other namespaces; otherwise all apply to the destination, by every scope.
//! `decide-allow` and `decide-default-deny` judge one caller over and over, `decide-any-caller` all of them
//! by turns.

use super::report::{Machine, Report, Samples};
use anyhow::{Context as _, Result, ensure};
use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Connection, Reason, decide, explain, nearest};
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, StringMatch,
};
use mesh_common::proto::workload as wire;
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use mesh_common::workload::Workload;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [1, 100, 10_000];
/// How many policies name each caller.
const MATCHING: usize = 10;
const UID: &str = "Kubernetes//Pod/shop/web";
/// The port that one policy of each caller opens, and one that none does.
const OPEN: u16 = 8080;
const CLOSED: u16 = 9090;
/// How long one figure is measured in one round.
const MEASURED: Duration = Duration::from_millis(100);

/// Measures decisions, `rounds` times, the sizes by turns.
///
/// # Errors
/// When a decision is not what it must be, or the machine cannot be described.
pub fn policy(rounds: u32) -> Result<Report> {
    let worlds: Vec<World> = SIZES.into_iter().map(World::new).collect::<Result<_>>()?;
    let mut samples = Samples::default();
    for round in 0..rounds {
        for world in &worlds {
            eprintln!("bench: round {} of {rounds}: {}", round + 1, world.name);
            for (metric, unit, value) in world.measure()? {
                samples.add(metric, unit, &world.name, round, value)?;
            }
        }
    }
    let names: Vec<&str> = worlds.iter().map(|world| &*world.name).collect();
    let pairs: Vec<_> = names.iter().skip(2).map(|name| (*name, names[1])).collect();
    let notes = vec![
        format!("of the policies, {MATCHING} name the caller, or the only one does"),
        "explain evaluates every policy that applies; change is one policy replaced and compiled"
            .into(),
    ];
    Ok(samples.report(&pairs, Machine::read([].into())?, notes))
}

/// Policies of one number, all on one destination, and the same with most of them elsewhere.
struct World {
    name: String,
    here: SnapshotBuilder,
    mesh: Snapshot,
    elsewhere: Snapshot,
    callers: Vec<SpiffeId>,
}

impl World {
    fn new(size: usize) -> Result<Self> {
        let here = mesh(size, |_| "shop".into())?;
        let far = mesh(size, |n| match n < MATCHING {
            true => "shop".into(),
            false => format!("other-{}", n % 1_000),
        })?;
        Ok(Self {
            name: format!("policies-{size}"),
            mesh: here.to_snapshot(),
            here,
            elsewhere: far.to_snapshot(),
            callers: (0..size.div_ceil(MATCHING))
                .map(|n| format!("spiffe://{}", principal(n)).parse())
                .collect::<Result<_, _>>()?,
        })
    }

    fn measure(&self) -> Result<Vec<(&'static str, &'static str, f64)>> {
        let (workload, far) = (destination(&self.mesh)?, destination(&self.elsewhere)?);
        let say = |mesh: &Snapshot, workload: &Workload, port| {
            decide(&mesh.policies_for(workload), &self.connection(0, port)).reason
        };
        for mesh in [(&self.mesh, workload), (&self.elsewhere, far)] {
            let said = [OPEN, CLOSED].map(|port| say(mesh.0, mesh.1, port));
            ensure!(
                said == [Reason::AllowRule, Reason::NoAllowMatched],
                "decided {said:?}"
            );
        }
        let decision = |mesh, workload, port| {
            time(|| {
                black_box(say(mesh, workload, black_box(port)));
            })
        };
        let mut caller = 0;
        let any_caller = time(|| {
            caller = (caller + 1) % self.callers.len();
            let policies = self.mesh.policies_for(workload);
            drop(black_box(decide(&policies, &self.connection(caller, OPEN))));
        });
        let nearest = time(|| {
            let policies = self.mesh.policies_for(workload);
            drop(black_box(nearest(
                &policies,
                &self.connection(0, black_box(CLOSED)),
            )));
        });
        let explained = time(|| {
            let policies = self.mesh.policies_for(workload);
            drop(black_box(explain(
                &policies,
                &self.connection(0, black_box(CLOSED)),
            )));
        });
        // A builder that shares all it holds with a snapshot, as in an agent.
        let mut builder = self.here.clone();
        let changed = policy_of(0, "shop".into());
        let key = format!("shop/{}", changed.name);
        let mut broken = Ok(());
        let change = time(|| {
            if let Err(error) = builder.upsert_policy(&key, changed.clone()) {
                broken = Err(error);
            }
            black_box(builder.to_snapshot());
        });
        broken?;
        Ok(vec![
            ("decide-allow", "ns", decision(&self.mesh, workload, OPEN)),
            (
                "decide-default-deny",
                "ns",
                decision(&self.mesh, workload, CLOSED),
            ),
            (
                "decide-elsewhere",
                "ns",
                decision(&self.elsewhere, far, OPEN),
            ),
            ("decide-any-caller", "ns", any_caller),
            ("nearest", "ns", nearest),
            ("explain", "ns", explained),
            ("change", "ns", change),
        ])
    }

    fn connection(&self, caller: usize, port: u16) -> Connection<'_> {
        Connection {
            source: ([10, 0, 0, 1], 40_000).into(),
            destination: ([10, 0, 0, 2], port).into(),
            principal: self.callers.get(caller),
        }
    }
}

/// The mean time of one call, ns.
fn time(mut call: impl FnMut()) -> f64 {
    call();
    let started = Instant::now();
    let mut calls = 0_u64;
    let mut batch = 1;
    while started.elapsed() < MEASURED {
        (0..batch).for_each(|_| call());
        calls += batch;
        batch = (batch * 2).min(1_024);
    }
    started.elapsed().as_secs_f64() * 1e9 / calls as f64
}

fn destination(mesh: &Snapshot) -> Result<&Arc<Workload>> {
    mesh.workload(UID).context("the destination is there")
}

fn mesh(size: usize, namespace: impl Fn(usize) -> String) -> Result<SnapshotBuilder> {
    let mut builder = SnapshotBuilder::default();
    let mut listed = Vec::new();
    for n in 0..size {
        let policy = policy_of(n, namespace(n));
        let key = format!("{}/{}", policy.namespace, policy.name);
        if policy.scope() == Scope::WorkloadSelector && policy.namespace == "shop" {
            listed.push(key.clone());
        }
        builder.upsert_policy(&key, policy)?;
    }
    let workload = wire::Workload {
        uid: UID.into(),
        name: "web".into(),
        namespace: "shop".into(),
        authorization_policies: listed,
        ..wire::Workload::default()
    };
    let resource = wire::Address {
        r#type: Some(wire::address::Type::Workload(workload)),
    };
    builder.upsert_address(UID, resource)?;
    Ok(builder)
}

fn principal(caller: usize) -> String {
    format!("cluster.local/ns/shop/sa/account-{caller}")
}

/// The policy of that number: ten name one caller, and the first of them opens [`OPEN`]. Names count down, so
/// that the others of the caller come before it where scopes are equal.
fn policy_of(n: usize, namespace: String) -> Authorization {
    let exact = |value| StringMatch {
        match_type: Some(MatchType::Exact(value)),
    };
    let excluded = Address {
        address: vec![10, 0, 0, 0],
        length: 8,
    };
    let from = Match {
        principals: vec![exact(principal(n / MATCHING))],
        not_source_ips: if n.is_multiple_of(MATCHING) {
            Vec::new()
        } else {
            vec![excluded]
        },
        ..Match::default()
    };
    let to = Match {
        destination_ports: vec![OPEN.into(), 8443],
        ..Match::default()
    };
    // Policies of other namespaces are not for the whole mesh.
    let scopes = match &*namespace {
        "shop" => [Scope::WorkloadSelector, Scope::Namespace, Scope::Global],
        _ => [Scope::WorkloadSelector, Scope::Namespace, Scope::Namespace],
    };
    let clause = |m| Clause { matches: vec![m] };
    Authorization {
        name: format!("policy-{:05}", usize::from(u16::MAX) - n),
        namespace,
        scope: scopes[n % scopes.len()].into(),
        action: Action::Allow.into(),
        rules: vec![Rule {
            clauses: vec![clause(from), clause(to)],
        }],
        ..Authorization::default()
    }
}
