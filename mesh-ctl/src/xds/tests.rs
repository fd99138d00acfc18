//! The delta state, driven by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};

use prost::Message as _;

use super::client::{Client, Received};
use super::message::Message;
use crate::resources::{Kind, Resource, Step, Table, Updates, World};

type Entry<'a> = (&'a str, &'a str);

/// The step from a table to these entries.
fn updates(before: &Table, kind: Kind, entries: &[Entry<'_>]) -> Updates {
    let gone = before.iter().map(|r| (Arc::clone(&r.name), None));
    let there = entries.iter().map(|(name, body)| {
        let alias = vec![format!("/ip-of-{name}")];
        let resource = Resource::new(kind, name, body.as_bytes().to_vec(), alias);
        (Arc::from(*name), Some(resource))
    });
    gone.chain(there).collect()
}

fn world(before: &World, addresses: &[Entry<'_>], policies: &[Entry<'_>]) -> Arc<World> {
    let table = |kind, entries| updates(before.table(kind), kind, entries);
    let step = Step {
        addresses: table(Kind::Address, addresses),
        policies: table(Kind::Authorization, policies),
        ..Step::default()
    };
    let next = before.next(step, Instant::now());
    Arc::new(next.expect("something changed"))
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

/// As a client decodes it; resources have no order of their own.
fn decoded(mut message: Message) -> DeltaDiscoveryResponse {
    let mut all = Vec::new();
    while let Some(piece) = message.next_piece() {
        all.extend_from_slice(&piece);
    }
    let mut response = DeltaDiscoveryResponse::decode(&all[5..]).unwrap();
    response.resources.sort_by(|a, b| a.name.cmp(&b.name));
    response
}

/// `type: +changed -removed`, without acknowledging.
fn take(client: &mut Client, world: &Arc<World>) -> Option<(String, DeltaDiscoveryResponse)> {
    let out = client.next(world, Instant::now()).unwrap()?;
    let response = decoded(out.message);
    let mut text = out.kind.map_or("unknown", Kind::label).to_owned() + ":";
    for resource in &response.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &response.removed_resources {
        text += &format!(" -{name}");
    }
    Some((text, response))
}

fn tell(client: &mut Client, world: &World, request: DeltaDiscoveryRequest) -> Received {
    client.receive(request, world).unwrap()
}

/// Everything the client is sent, acknowledging each.
fn drain(client: &mut Client, world: &Arc<World>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some((text, response)) = take(client, world) {
        seen.push(text);
        assert_eq!(tell(client, world, ack(&response)), Received::Taken);
    }
    seen
}

fn wildcard() -> Client {
    let mut client = Client::default();
    tell(
        &mut client,
        &World::default(),
        subscribe(Kind::Address, &[]),
    );
    tell(
        &mut client,
        &World::default(),
        subscribe(Kind::Authorization, &[]),
    );
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
        let entry = |r: &Arc<Resource>| (r.name.to_string(), r.version().to_string());
        one.table(kind).iter().map(entry).collect()
    };
    let two = world(&one, &[("a", "1"), ("c", "1")], &[("p", "2")]);
    let mut client = Client::default();
    for kind in Kind::ALL {
        let initial_resource_versions = held(kind);
        let request = DeltaDiscoveryRequest {
            initial_resource_versions,
            ..subscribe(kind, &[])
        };
        tell(&mut client, &two, request);
    }
    assert_eq!(
        drain(&mut client, &two),
        [
            "authorization: +p",
            "address: +c -b",
            "authorization: -q",
            "enrolment:"
        ]
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
    assert!(client.awaits_since().is_some());

    // Two changes pass while the client is silent: it gets the second one only.
    let two = world(&one, &[("a", "2"), ("b", "1")], &[]);
    assert!(take(&mut client, &two).is_none());
    let three = world(&two, &[("a", "3")], &[]);
    tell(&mut client, &one, ack(&policies));
    tell(&mut client, &one, ack(&addresses));
    assert_eq!(drain(&mut client, &three), ["address: +a -b"]);
    assert!(client.awaits_since().is_none());
}

#[test]
fn a_refusal_is_reported_and_not_repeated() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = wildcard();
    let (_, policies) = take(&mut client, &one).unwrap();
    tell(&mut client, &one, ack(&policies));
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
        tell(&mut client, &one, refused),
        Received::Refused {
            kind: Kind::Address,
            reason: "a: bad".into(),
            names: vec!["a".into()],
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
    tell(&mut client, &one, on_demand);
    assert_eq!(drain(&mut client, &one), ["address:"]);

    tell(
        &mut client,
        &one,
        subscribe(Kind::Address, &["a", "/ip-of-b", "/10.9.9.9"]),
    );
    assert_eq!(drain(&mut client, &one), ["address: +a +b -/10.9.9.9"]);
    assert_eq!(drain(&mut client, &one), [""; 0]);

    let two = world(&one, &[("a", "2"), ("/10.9.9.9", "1"), ("c", "2")], &[]);
    assert_eq!(
        drain(&mut client, &two),
        ["address: +/10.9.9.9 +a -b"],
        "c was not asked for"
    );
    let unsubscribe = DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec!["a".into()],
        ..subscribe(Kind::Address, &[])
    };
    tell(&mut client, &two, unsubscribe);
    let three = world(&two, &[("a", "3"), ("/10.9.9.9", "1"), ("c", "3")], &[]);
    assert_eq!(drain(&mut client, &three), [""; 0]);
    tell(&mut client, &one, subscribe(Kind::Address, &["/10.9.9.9"]));
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
    tell(&mut client, &one, request);
    let (text, response) = take(&mut client, &one).unwrap();
    assert_eq!(
        (text.as_str(), response.type_url.as_str()),
        ("unknown:", "x")
    );
    tell(&mut client, &one, ack(&response));
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
                    current = world(&current, &[(&address, &policy)], &[(&policy, &mark)]);
                }
                1 => {
                    if let Some((_, response)) = take(&mut client, &current) {
                        apply(&mut held, &response);
                        unacked.push(response);
                    }
                }
                _ => {
                    if let Some(response) = unacked.pop() {
                        tell(&mut client, &current, ack(&response));
                    }
                }
            }
        }
        for response in unacked {
            tell(&mut client, &current, ack(&response));
        }
        while let Some((_, response)) = take(&mut client, &current) {
            apply(&mut held, &response);
            tell(&mut client, &current, ack(&response));
        }
        let expected: HashMap<String, Vec<u8>> = Kind::ALL
            .iter()
            .flat_map(|kind| current.table(*kind).iter())
            .map(|r| (r.name.to_string(), r.body().to_vec()))
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

#[test]
fn a_client_that_held_little_is_sent_everything_and_told_what_is_gone() {
    let one = world(
        &World::default(),
        &[("a", "1"), ("b", "1"), ("c", "1")],
        &[],
    );
    let mut client = Client::default();
    let versions = [("a", "?"), ("b", "?"), ("gone", "?")];
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: versions.map(|(n, v)| (n.into(), v.into())).into(),
        ..subscribe(Kind::Address, &[])
    };
    tell(&mut client, &one, request);
    assert_eq!(drain(&mut client, &one), ["address: +a +b +c -gone"]);
}

#[test]
fn a_refusal_is_of_the_resources_that_it_names() {
    let one = world(
        &World::default(),
        &[("ns/a", "1"), ("b", "1"), ("c", "1")],
        &[],
    );
    let mut client = wildcard();
    take(&mut client, &one).unwrap();
    let (_, addresses) = take(&mut client, &one).unwrap();
    let message = "resource \"ns/a\": the address is odd; resource \"x\": bad; b: c is missing.";
    let refusal = DeltaDiscoveryRequest {
        error_detail: Some(Status {
            code: 3,
            message: message.into(),
            details: vec![],
        }),
        ..ack(&addresses)
    };
    let Received::Refused { names, .. } = tell(&mut client, &one, refusal) else {
        panic!("not refused")
    };
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    assert_eq!(names, ["ns/a", "b", "c"]);
    let (refused, _) = client.status(Kind::Address).refused.clone().unwrap();
    assert_eq!(refused, message);
}

#[test]
fn only_an_answer_to_it_ends_the_wait_for_a_response() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = wildcard();
    assert_eq!(client.awaits_since(), None);
    let (_, policies) = take(&mut client, &one).unwrap();
    let (_, addresses) = take(&mut client, &one).unwrap();
    let since = client.awaits_since();
    assert!(since.is_some());
    for _ in 0..3 {
        let other = DeltaDiscoveryRequest {
            response_nonce: "other".into(),
            ..subscribe(Kind::Address, &["a"])
        };
        tell(&mut client, &one, other);
        assert!(take(&mut client, &one).is_none());
    }
    assert_eq!(client.awaits_since(), since);
    tell(&mut client, &one, ack(&addresses));
    assert_eq!(client.awaits_since(), since, "the other is older");
    tell(&mut client, &one, ack(&policies));
    assert_eq!(client.awaits_since(), None);
}

#[test]
fn names_are_bounded() {
    let one = world(&World::default(), &[("a", "1")], &[]);
    let mut client = Client::default();
    let names: Vec<String> = (0..=10_000).map(|i| i.to_string()).collect();
    let request = DeltaDiscoveryRequest {
        resource_names_subscribe: names,
        ..subscribe(Kind::Address, &[])
    };
    assert!(client.receive(request, &one).is_err());
}

#[test]
fn who_is_enrolled_is_sent_by_name_after_all_else() {
    let enrolment = |name: &str, body: &str| {
        let resource = Resource::new(Kind::Enrolment, name, body.as_bytes().to_vec(), Vec::new());
        (Arc::from(name), Some(resource))
    };
    let step = |node: &str| Step {
        addresses: updates(&Table::default(), Kind::Address, &[("a", node)]),
        enrolments: [enrolment("node/n1", node), enrolment("node/n2", "other")].into(),
        ..Step::default()
    };
    let one = World::default().next(step("1"), Instant::now());
    let one = Arc::new(one.expect("something changed"));
    let mut client = Client::default();
    tell(&mut client, &one, subscribe(Kind::Authorization, &[]));
    tell(&mut client, &one, subscribe(Kind::Address, &[]));
    let names = ["node/n1", "namespaces"];
    tell(&mut client, &one, subscribe(Kind::Enrolment, &names));
    let first = drain(&mut client, &one);
    assert_eq!(first.last().unwrap(), "enrolment: +node/n1 -namespaces");
    let two = one.next(step("2"), Instant::now());
    let two = Arc::new(two.expect("something changed"));
    assert_eq!(
        drain(&mut client, &two),
        ["address: +a", "enrolment: +node/n1"],
        "another node's pods are not its business"
    );
}
