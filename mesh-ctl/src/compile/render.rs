//! Resources as JSON, for people: `/debug/resources` and the golden files.

use std::net::IpAddr;

use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{self, Authorization, Match, StringMatch};
use mesh_common::proto::weft::{self, enrolment::Enrolment};
use mesh_common::proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use mesh_common::proto::workload::{
    Address, Port, Service, TunnelProtocol, Workload, WorkloadStatus, WorkloadType, address,
};
use prost::Message;
use serde_json::{Map, Value, json};

use crate::resources::{Kind, Resource};

/// The content of a resource; fields that say nothing are left out.
pub fn render(kind: Kind, resource: &Resource) -> Value {
    let rendered = match kind {
        Kind::Address => Address::decode(resource.body())
            .ok()
            .and_then(|a| a.r#type)
            .map(|address| match address {
                address::Type::Workload(workload) => json!({"workload": workload_json(&workload)}),
                address::Type::Service(service) => json!({"service": service_json(&service)}),
            }),
        Kind::Authorization => Authorization::decode(resource.body())
            .ok()
            .map(|policy| policy_json(&policy)),
        Kind::Enrolment => Enrolment::decode(resource.body())
            .ok()
            .map(|enrolment| enrolment_json(&enrolment)),
    };
    rendered.unwrap_or_else(|| json!("does not decode"))
}

fn enrolment_json(enrolment: &Enrolment) -> Value {
    let pod = |pod: &weft::enrolment::Pod| {
        object([
            ("uid", json!(pod.uid)),
            ("pod", json!(format!("{}/{}", pod.namespace, pod.name))),
            ("enrolled", json!(pod.enrolled)),
            (
                "addresses",
                pod.addresses.iter().map(|a| json!(ip(a))).collect(),
            ),
        ])
    };
    object([
        ("pods", enrolment.pods.iter().map(pod).collect()),
        ("namespaces", json!(enrolment.namespaces)),
    ])
}

fn workload_json(w: &Workload) -> Value {
    let mut services: Vec<_> = w.services.iter().collect();
    services.sort_by_key(|(key, _)| *key);
    let services: Map<String, Value> = services
        .into_iter()
        .map(|(key, list)| (key.clone(), ports_json(&list.ports)))
        .collect();
    let locality = w
        .locality
        .as_ref()
        .map(|l| format!("{}/{}/{}", l.region, l.zone, l.subzone));
    object([
        ("uid", json!(w.uid)),
        ("name", json!(w.name)),
        ("namespace", json!(w.namespace)),
        (
            "addresses",
            w.addresses.iter().map(|bytes| json!(ip(bytes))).collect(),
        ),
        (
            "tunnelProtocol",
            name(TunnelProtocol::try_from(w.tunnel_protocol).map(|t| t.as_str_name())),
        ),
        ("trustDomain", json!(w.trust_domain)),
        ("serviceAccount", json!(w.service_account)),
        ("node", json!(w.node)),
        ("canonicalName", json!(w.canonical_name)),
        ("canonicalRevision", json!(w.canonical_revision)),
        (
            "workloadType",
            name(WorkloadType::try_from(w.workload_type).map(|t| t.as_str_name())),
        ),
        ("workloadName", json!(w.workload_name)),
        ("services", Value::Object(services)),
        ("authorizationPolicies", json!(w.authorization_policies)),
        (
            "status",
            name(WorkloadStatus::try_from(w.status).map(|s| s.as_str_name())),
        ),
        ("clusterId", json!(w.cluster_id)),
        ("locality", json!(locality)),
        ("hostNetwork", json!(w.network_mode != 0)),
    ])
}

fn service_json(s: &Service) -> Value {
    let balancing = s.load_balancing.as_ref().map(|lb| {
        let scopes = lb
            .routing_preference
            .iter()
            .map(|scope| name(Scope::try_from(*scope).map(|scope| scope.as_str_name())));
        object([
            (
                "mode",
                name(Mode::try_from(lb.mode).map(|mode| mode.as_str_name())),
            ),
            ("routingPreference", scopes.collect()),
            (
                "healthPolicy",
                name(HealthPolicy::try_from(lb.health_policy).map(|h| h.as_str_name())),
            ),
        ])
    });
    object([
        ("name", json!(s.name)),
        ("namespace", json!(s.namespace)),
        ("hostname", json!(s.hostname)),
        (
            "addresses",
            s.addresses.iter().map(|a| json!(ip(&a.address))).collect(),
        ),
        ("ports", ports_json(&s.ports)),
        ("loadBalancing", json!(balancing)),
    ])
}

fn ports_json(ports: &[Port]) -> Value {
    ports
        .iter()
        .map(|port| json!(format!("{} -> {}", port.service_port, port.target_port)))
        .collect()
}

fn policy_json(policy: &Authorization) -> Value {
    let audited = policy.audited();
    let action = match &audited {
        Some(_) => json!("AUDIT"),
        None => name(security::Action::try_from(policy.action).map(|a| a.as_str_name())),
    };
    let rules = audited.as_ref().unwrap_or(&policy.rules);
    let rules = rules.iter().map(|rule| {
        let clauses = rule
            .clauses
            .iter()
            .map(|clause| clause.matches.iter().map(match_json).collect());
        json!({"clauses": clauses.collect::<Vec<Value>>()})
    });
    object([
        ("name", json!(policy.name)),
        ("namespace", json!(policy.namespace)),
        (
            "scope",
            name(security::Scope::try_from(policy.scope).map(|s| s.as_str_name())),
        ),
        ("action", action),
        ("dryRun", json!(policy.dry_run)),
        // Always shown: a policy without rules matches nothing.
        ("rules", Value::Array(rules.collect())),
    ])
}

fn match_json(m: &Match) -> Value {
    let strings = |list: &[StringMatch]| list.iter().map(string_json).collect::<Value>();
    let accounts = |list: &[security::ServiceAccountMatch]| {
        list.iter()
            .map(|a| json!(format!("{}/{}", a.namespace, a.service_account)))
            .collect::<Value>()
    };
    let blocks = |list: &[security::Address]| {
        list.iter()
            .map(|a| json!(format!("{}/{}", ip(&a.address), a.length)))
            .collect::<Value>()
    };
    object([
        ("principals", strings(&m.principals)),
        ("notPrincipals", strings(&m.not_principals)),
        ("namespaces", strings(&m.namespaces)),
        ("notNamespaces", strings(&m.not_namespaces)),
        ("serviceAccounts", accounts(&m.service_accounts)),
        ("notServiceAccounts", accounts(&m.not_service_accounts)),
        ("sourceIps", blocks(&m.source_ips)),
        ("notSourceIps", blocks(&m.not_source_ips)),
        ("destinationIps", blocks(&m.destination_ips)),
        ("notDestinationIps", blocks(&m.not_destination_ips)),
        ("destinationPorts", json!(m.destination_ports)),
        ("notDestinationPorts", json!(m.not_destination_ports)),
    ])
}

fn string_json(matcher: &StringMatch) -> Value {
    match &matcher.match_type {
        Some(MatchType::Exact(text)) => json!({ "exact": text }),
        Some(MatchType::Prefix(text)) => json!({ "prefix": text }),
        Some(MatchType::Suffix(text)) => json!({ "suffix": text }),
        Some(MatchType::Presence(())) => json!("present"),
        None => json!("nothing"),
    }
}

fn name<E>(name: Result<&'static str, E>) -> Value {
    json!(name.unwrap_or("unknown"))
}

fn ip(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_or_else(
        |_| format!("{} bytes", bytes.len()),
        |address| address.to_string(),
    )
}

/// Leaves out what is empty, false or null, except `rules`.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let says_something = |(name, value): &(&str, Value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty() || *name == "rules",
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    fields
        .into_iter()
        .filter(says_something)
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}
