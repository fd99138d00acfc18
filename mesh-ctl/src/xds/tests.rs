//! The delta state, driven by hand.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};

use super::client::{Client, Received};
use crate::resources::{Compiled, Kind, Resource, World};

type Entry<'a> = (&'a str, &'a str);

fn world(before: &World, addresses: &[Entry<'_>], policies: &[Entry<'_>]) -> Arc<World> {
    let table = |entries: &[Entry<'_>]| {
        let resource = |(name, body): &Entry<'_>| {
            let alias = Arc::from(format!("/ip-of-{name}"));
            let resource = Resource::new(name, body.as_bytes().to_vec(), vec![alias]);
            (Arc::from(*name), resource)
        };
        entries.iter().map(resource).collect()
    };
    let compiled = Compiled {
        addresses: table(addresses),
        policies: table(policies),
        ..Compiled::default()
    };
    Arc::new(before.next(compiled).expect("something changed"))
}

fn subscribe(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// `type: +changed -removed`, without acknowledging.
fn take(client: &mut Client, world: &Arc<World>) -> Option<(String, DeltaDiscoveryResponse)> {
    let out = client.next(world).unwrap()?;
    let mut text = out.kind.map_or("unknown", Kind::label).to_owned() + ":";
    for resource in &out.response.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &out.response.removed_resources {
        text += &format!(" -{name}");
    }
    Some((text, out.response))
}

/// Everything the client is sent, acknowledging each.
fn drain(client: &mut Client, world: &Arc<World>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some((text, response)) = take(client, world) {
        seen.push(text);
        assert_eq!(client.receive(ack(&response)), Received::Taken);
    }
    seen
}

fn wildcard() -> Client {
    let mut client = Client::default();
    client.receive(subscribe(Kind::Address, &[]));
    client.receive(subscribe(Kind::Authorization, &[]));
    client
}

#[test]
fn the_first_response_of_each_type_comes_even_when_empty() {
    let one = world(&World::default(), &[], &[]);
    assert_eq!(drain(&mut wildcard(), &one), ["authorization:", "address:"]);
}

#[test]
fn nothing_is_said_before_the_first_world() {
    assert_eq!(drain(&mut wildcard(), &Arc::default()), [""; 0]);
}

#[test]
fn a_change_travels_policies_first_and_removed_policies_last() {
    let one = world(
        &World::default(),
        &[("a", "1"), ("b", "1")],
        &[("p", "1"), ("q", "1")],
    );
    let mut client = wildcard();
    assert_eq!(
        drain(&mut client, &one),
        ["authorization: +p +q", "address: +a +b"]
    );
    assert_eq!(drain(&mut client, &one), [""; 0]);

    let two = world(&one, &[("a", "2"), ("c", "1")], &[("p", "1"), ("r", "1")]);
    assert_eq!(
        drain(&mut client, &two),
        [
            "authorization: +r",
            "address: +a +c -b",
            "authorization: -q"
        ]
    );
    let three = world(&two, &[("a", "2"), ("c", "1")], &[("p", "2"), ("r", "1")]);
    assert_eq!(drain(&mut client, &three), ["authorization: +p"]);
}

#[test]
fn a_reconnect_is_sent_only_what_changed_meanwhile() {
    let one = world(
        &World::default(),
        &[("a", "1"), ("b", "1")],
        &[("p", "1"), ("q", "1")],
    );
    let held = |kind: Kind| -> HashMap<String, String> {
        let entry = |r: &Arc<Resource>| (r.name.to_string(), r.version.to_string());
        one.table(kind).iter().map(entry).collect()
    };
    let two = world(&one, &[("a", "1"), ("c", "1")], &[("p", "2")]);
    let mut client = Client::default();
    for kind in Kind::ALL {
        let initial_resource_versions = held(kind);
        client.receive(DeltaDiscoveryRequest {
            initial_resource_versions,
            ..subscribe(kind, &[])
        });
    }
    assert_eq!(
        drain(&mut client, &two),
        ["authorization: +p", "address: +c -b", "authorization: -q"]
    );
    let three = world(&two, &[("a", "2"), ("c", "1")], &[("p", "2")]);
    assert_eq!(
        drain(&mut client, &three),
        ["address: +a"],
        "then as everybody else"
    );
}

#[test]
fn at_most_one_response_of_a_type_awaits_its_acknowledgement() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = wildcard();
    let (_, policies) = take(&mut client, &one).unwrap();
    let (_, addresses) = take(&mut client, &one).unwrap();
    assert!(client.awaits_acknowledgement());

    // Two changes pass while the client is silent: it gets the second one only.
    let two = world(&one, &[("a", "2"), ("b", "1")], &[]);
    assert!(take(&mut client, &two).is_none());
    let three = world(&two, &[("a", "3")], &[]);
    client.receive(ack(&policies));
    client.receive(ack(&addresses));
    assert_eq!(drain(&mut client, &three), ["address: +a -b"]);
    assert!(!client.awaits_acknowledgement());
}

#[test]
fn a_refusal_is_reported_and_not_repeated() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = wildcard();
    let (_, policies) = take(&mut client, &one).unwrap();
    client.receive(ack(&policies));
    let (_, addresses) = take(&mut client, &one).unwrap();
    let refused = DeltaDiscoveryRequest {
        error_detail: Some(Status {
            code: 3,
            message: "a: bad".into(),
            details: vec![],
        }),
        ..ack(&addresses)
    };
    assert_eq!(
        client.receive(refused),
        Received::Refused {
            kind: Kind::Address,
            reason: "a: bad".into()
        }
    );
    assert_eq!(drain(&mut client, &one), [""; 0]);
    let two = world(&one, &[("a", "2")], &[]);
    assert_eq!(drain(&mut client, &two), ["address: +a"]);
}

#[test]
fn names_are_looked_up_on_demand_and_by_address() {
    let one = world(
        &World::default(),
        &[("a", "1"), ("b", "1"), ("c", "1")],
        &[],
    );
    let mut client = Client::default();
    let on_demand = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["*".into()],
        ..subscribe(Kind::Address, &["*"])
    };
    client.receive(on_demand);
    assert_eq!(drain(&mut client, &one), ["address:"]);

    client.receive(subscribe(Kind::Address, &["a", "/ip-of-b", "/10.9.9.9"]));
    assert_eq!(drain(&mut client, &one), ["address: +a +b -/10.9.9.9"]);
    assert_eq!(drain(&mut client, &one), [""; 0]);

    let two = world(&one, &[("a", "2"), ("/10.9.9.9", "1"), ("c", "2")], &[]);
    assert_eq!(
        drain(&mut client, &two),
        ["address: +/10.9.9.9 +a -b"],
        "c was not asked for"
    );
    client.receive(DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["a".into()],
        ..subscribe(Kind::Address, &[])
    });
    let three = world(&two, &[("a", "3"), ("/10.9.9.9", "1"), ("c", "3")], &[]);
    assert_eq!(drain(&mut client, &three), [""; 0]);
    client.receive(subscribe(Kind::Address, &["/10.9.9.9"]));
    assert_eq!(
        drain(&mut client, &three),
        ["address: +/10.9.9.9"],
        "asked again, told again"
    );
}

#[test]
fn unknown_types_are_answered_with_nothing() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = Client::default();
    let request = DeltaDiscoveryRequest {
        type_url: "x".into(),
        ..Default::default()
    };
    client.receive(request);
    let (text, response) = take(&mut client, &one).unwrap();
    assert_eq!(
        (text.as_str(), response.type_url.as_str()),
        ("unknown:", "x")
    );
    client.receive(ack(&response));
    assert!(take(&mut client, &one).is_none());
}

/// A client that applies whatever it is sent, at any pace, ends with what there is, and never lists
/// an address whose policy it was not sent before.
#[test]
fn any_interleaving_converges() {
    for seed in 0..200u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let mut current = world(&World::default(), &[("w0", "p0")], &[("p0", "x")]);
        let mut client = wildcard();
        let (mut held, mut unacked) = (HashMap::new(), Vec::new());
        for step in 0..60 {
            match roll(3) {
                0 => {
                    // The body of an address is the name of the policy it relies on.
                    let policy = format!("p{}", roll(4));
                    let address = format!("w{}", roll(3));
                    let mark = step.to_string();
                    let compiled = Compiled {
                        addresses: [(
                            Arc::from(address.as_str()),
                            Resource::new(&address, policy.clone().into_bytes(), vec![]),
                        )]
                        .into(),
                        policies: [(
                            Arc::from(policy.as_str()),
                            Resource::new(&policy, mark.into_bytes(), vec![]),
                        )]
                        .into(),
                        ..Compiled::default()
                    };
                    current = current.next(compiled).map_or(current, Arc::new);
                }
                1 => {
                    if let Some((_, response)) = take(&mut client, &current) {
                        apply(&mut held, &response);
                        unacked.push(response);
                    }
                }
                _ => {
                    if let Some(response) = unacked.pop() {
                        client.receive(ack(&response));
                    }
                }
            }
        }
        for response in unacked {
            client.receive(ack(&response));
        }
        while let Some((_, response)) = take(&mut client, &current) {
            apply(&mut held, &response);
            client.receive(ack(&response));
        }
        let expected: HashMap<String, Vec<u8>> = Kind::ALL
            .iter()
            .flat_map(|kind| current.table(*kind).iter())
            .map(|r| (r.name.to_string(), r.body.to_vec()))
            .collect();
        assert_eq!(held, expected, "seed {seed}");
    }
}

fn apply(held: &mut HashMap<String, Vec<u8>>, response: &DeltaDiscoveryResponse) {
    for name in &response.removed_resources {
        held.remove(name);
    }
    for resource in &response.resources {
        held.insert(
            resource.name.clone(),
            resource.resource.as_ref().unwrap().value.clone(),
        );
    }
    for (name, body) in held.iter().filter(|(name, _)| name.starts_with('w')) {
        let policy = String::from_utf8(body.clone()).unwrap();
        assert!(held.contains_key(&policy), "{name} is without {policy}");
    }
}
