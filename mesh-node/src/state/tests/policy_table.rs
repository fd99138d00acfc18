//! The golden table of policy, run on the node's own path: discovery responses, the state that they make, and
//! the judgement that the data plane passes under it.

#[path = "../../../../tests/policy/format.rs"]
mod format;
#[path = "../../../../mesh-common/tests/policy/table/reading.rs"]
mod reading;

use mesh_common::proto::workload::{Address, Workload, address::Type};
use mesh_common::proto::xds::{DeltaDiscoveryResponse, Resource};
use mesh_common::snapshot::Snapshot;
use prost::Message;
use std::net::IpAddr;
use std::sync::Arc;

use super::delta::{resource, response};
use crate::drain::Drain;
use crate::observe::{Parties, Party, Reporter, Security};
use crate::pod::Pod;
use crate::proxy::{Facts, judge};
use crate::state::delta::{ADDRESS, AUTHORIZATION, Delta};
use crate::sys::Netns;

fn uid(namespace: &str, name: &str) -> String {
    format!("Kubernetes//Pod/{namespace}/{name}")
}

/// The pods of the table, each with the names of the policies that select it.
fn addresses(policies: &[reading::Read]) -> Vec<Resource> {
    let octets = |address: &&str| match address.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let pods = format::PODS.iter().map(|(namespace, name, addresses)| {
        let selecting = policies
            .iter()
            .filter(|policy| policy.is_listed_in(namespace));
        let workload = Workload {
            uid: uid(namespace, name),
            name: (*name).into(),
            namespace: (*namespace).into(),
            addresses: addresses.iter().map(octets).collect(),
            authorization_policies: selecting.map(reading::Read::key).collect(),
            ..Workload::default()
        };
        let address = Address {
            r#type: Some(Type::Workload(workload)),
        };
        resource(ADDRESS, &uid(namespace, name), "1", address.encode_to_vec())
    });
    pods.collect()
}

/// What a node makes of the table's policies and pods once it was sent them.
fn state(table: &format::Table) -> Snapshot {
    let read = reading::read(&table.policies);
    let policies = read.iter().map(|policy| {
        let bytes = policy.authorization.encode_to_vec();
        resource(AUTHORIZATION, &policy.key(), "1", bytes)
    });
    let mut delta = Delta::default();
    let mut send = |response: DeltaDiscoveryResponse| {
        let outcome = delta.apply(response);
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        outcome.snapshot
    };
    send(response(ADDRESS, "a", addresses(&read), &[]));
    send(response(AUTHORIZATION, "b", policies.collect(), &[])).unwrap()
}

fn pod(namespace: &str, name: &str) -> Arc<Pod> {
    Arc::new(Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: String::new(),
        netns: Netns::open("/proc/self/ns/net").unwrap(),
        netns_path: "/proc/self/ns/net".into(),
        addresses: Vec::new(),
        drain: Drain::new(),
    })
}

#[test]
fn what_a_node_decides_agrees_with_the_table() {
    let mut wrong = Vec::new();
    for table in format::load() {
        let state = state(&table);
        for case in &table.cases {
            let (namespace, name) = case.destination();
            let (source, destination, principal) = case.connection();
            let facts = Facts {
                pod: pod(namespace, name),
                source,
                destination,
                principal: principal.clone(),
            };
            let (verdict, reports) = (facts.judge(&state), facts.report(&state));
            wrong.extend(case.check_decided(&verdict, &reports).err());
            let workload = state.workload_by_name(namespace, name).unwrap();
            wrong.extend(case.check(&state.policies_for(workload)).err());
            // At the client's end the same is known of the connection.
            let party = |address, workload, identity| Party {
                address,
                workload,
                identity,
            };
            let parties = Parties {
                reporter: Reporter::Source,
                source: party(source, None, principal),
                destination: party(destination, Some(workload.clone()), None),
                hbone_address: None,
                service: None,
                security: Security::MutualTls,
            };
            assert_eq!(judge(&state, &parties), verdict);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
