//! Policies as the documentation of their fields says, without the controller's help.

use ipnet::IpNet;
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};
use serde_norway::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::format::{ALIAS, Object, PODS, ROOT_NAMESPACE, TRUST_DOMAIN};

/// A policy in the form in which nodes have it, and the namespaces whose pods list it.
pub(crate) struct Read {
    pub(crate) authorization: Authorization,
    listed_in: Vec<String>,
}

impl Read {
    pub(crate) fn key(&self) -> String {
        format!(
            "{}/{}",
            self.authorization.namespace, self.authorization.name
        )
    }

    pub(crate) fn is_listed_in(&self, namespace: &str) -> bool {
        self.listed_in.iter().any(|listed| listed == namespace)
    }
}

pub(crate) fn read(objects: &[Object]) -> Vec<Read> {
    let (peer, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|o| o.kind == "PeerAuthentication");
    let mut all: Vec<_> = others.into_iter().map(authorization).collect();
    all.extend(modes(&peer));
    all
}

/// The items of a list; none where there is no list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn texts<'a>(of: &'a Value, field: &str) -> Vec<&'a str> {
    of.get(field)
        .into_iter()
        .flat_map(items)
        .map(|text| text.as_str().unwrap())
        .collect()
}

/// The labels that are selected by; none is as no selector.
fn labels(spec: &Value) -> Option<BTreeMap<String, String>> {
    let labels = spec.get("selector")?.get("matchLabels")?;
    let labels: BTreeMap<_, _> = serde_norway::from_value(labels.clone()).unwrap();
    (!labels.is_empty()).then_some(labels)
}

fn authorization(object: &Object) -> Read {
    let labels = labels(&object.spec);
    let of_root = object.namespace == ROOT_NAMESPACE;
    let scope = match (&labels, of_root) {
        (Some(_), _) => Scope::WorkloadSelector,
        (None, true) => Scope::Global,
        (None, false) => Scope::Namespace,
    };
    let selects =
        labels.is_some_and(|labels| labels == BTreeMap::from([("app".into(), "server".into())]));
    let pods = PODS
        .iter()
        .filter(|pod| selects && (of_root || pod.0 == object.namespace));
    let stated = object
        .spec
        .get("action")
        .map_or("ALLOW", |action| action.as_str().unwrap());
    let rules = object.spec.get("rules").into_iter().flat_map(items);
    let plain = Authorization {
        name: object.name.clone(),
        namespace: object.namespace.clone(),
        scope: scope.into(),
        action: if stated == "DENY" {
            Action::Deny
        } else {
            Action::Allow
        }
        .into(),
        rules: rules
            .map(|of| rule(of, &object.namespace, stated == "ALLOW"))
            .collect(),
        dry_run: object.dry_run,
        ..Authorization::default()
    };
    Read {
        authorization: if stated == "AUDIT" {
            plain.into_audit()
        } else {
            plain
        },
        listed_in: pods.map(|pod| pod.0.to_owned()).collect(),
    }
}

/// A term, and whether L7 is needed to check all of it.
type Term = (Match, bool);

fn rule(of: &Value, namespace: &str, allow: bool) -> Rule {
    let mut parts: Vec<Vec<Term>> = Vec::new();
    let from = of.get("from").map(|from| {
        items(from)
            .map(|from| source(&from["source"], namespace))
            .collect()
    });
    parts.extend(from);
    let to = of
        .get("to")
        .map(|to| items(to).map(|to| operation(&to["operation"])).collect());
    parts.extend(to);
    let when = of.get("when").into_iter().flat_map(items);
    parts.extend(when.map(|when| vec![condition(when, namespace)]));

    if allow && parts.iter().flatten().any(|(_, l7)| *l7) {
        // It never matches: a match without conditions is not understood.
        let matches = vec![Match::default()];
        return Rule {
            clauses: vec![Clause { matches }],
        };
    }
    // An alternative of which nothing is left always matches, and so does its part.
    parts.retain(|part| part.iter().all(|(m, _)| *m != Match::default()));
    let clause = |part: Vec<Term>| Clause {
        matches: part.into_iter().map(|(m, _)| m).collect(),
    };
    Rule {
        clauses: parts.into_iter().map(clause).collect(),
    }
}

fn source(of: &Value, own: &str) -> Term {
    let blocks_of = |names: [&str; 2]| {
        names
            .iter()
            .flat_map(|name| blocks(&texts(of, name)))
            .collect()
    };
    let m = Match {
        principals: principals(&texts(of, "principals")),
        not_principals: principals(&texts(of, "notPrincipals")),
        namespaces: strings(&texts(of, "namespaces")),
        not_namespaces: strings(&texts(of, "notNamespaces")),
        service_accounts: accounts(&texts(of, "serviceAccounts"), own),
        not_service_accounts: accounts(&texts(of, "notServiceAccounts"), own),
        source_ips: blocks_of(["ipBlocks", "remoteIpBlocks"]),
        not_source_ips: blocks_of(["notIpBlocks", "notRemoteIpBlocks"]),
        ..Match::default()
    };
    (
        m,
        ["requestPrincipals", "notRequestPrincipals"]
            .iter()
            .any(|field| of.get(field).is_some()),
    )
}

fn operation(of: &Value) -> Term {
    let m = Match {
        destination_ports: ports(&texts(of, "ports")),
        not_destination_ports: ports(&texts(of, "notPorts")),
        ..Match::default()
    };
    let l7 = [
        "methods",
        "notMethods",
        "paths",
        "notPaths",
        "hosts",
        "notHosts",
    ];
    (m, l7.iter().any(|field| of.get(field).is_some()))
}

fn condition(of: &Value, own: &str) -> Term {
    let (any, none) = (texts(of, "values"), texts(of, "notValues"));
    let mut m = Match::default();
    match of["key"].as_str().unwrap() {
        "source.ip" | "remote.ip" => {
            (m.source_ips, m.not_source_ips) = (blocks(&any), blocks(&none));
        }
        "source.namespace" => (m.namespaces, m.not_namespaces) = (strings(&any), strings(&none)),
        "source.principal" => {
            (m.principals, m.not_principals) = (principals(&any), principals(&none));
        }
        "source.serviceAccount" => {
            (m.service_accounts, m.not_service_accounts) =
                (accounts(&any, own), accounts(&none, own));
        }
        "destination.ip" => {
            (m.destination_ips, m.not_destination_ips) = (blocks(&any), blocks(&none));
        }
        "destination.port" => {
            (m.destination_ports, m.not_destination_ports) = (ports(&any), ports(&none));
        }
        _ => return (m, true),
    }
    (m, false)
}

fn strings(values: &[&str]) -> Vec<StringMatch> {
    let kind = |value: &&str| match (*value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => MatchType::Presence(()),
        (_, Some(end), _) => MatchType::Suffix(end.into()),
        (_, _, Some(start)) => MatchType::Prefix(start.into()),
        (exact, ..) => MatchType::Exact(exact.into()),
    };
    let of = |value| StringMatch {
        match_type: Some(kind(value)),
    };
    values.iter().map(of).collect()
}

/// Each name of the trust domain stands for both.
fn principals(values: &[&str]) -> Vec<StringMatch> {
    let mut all = Vec::new();
    for value in values {
        match value.split_once('/') {
            Some((domain, rest)) if [TRUST_DOMAIN, ALIAS].contains(&domain) => {
                all.extend([TRUST_DOMAIN, ALIAS].map(|name| format!("{name}/{rest}")));
            }
            _ => all.push((*value).to_owned()),
        }
    }
    strings(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

fn accounts(values: &[&str], own: &str) -> Vec<ServiceAccountMatch> {
    let of = |value: &&str| {
        let (namespace, account) = value.split_once('/').unwrap_or((own, value));
        ServiceAccountMatch {
            namespace: namespace.into(),
            service_account: account.into(),
        }
    };
    values.iter().map(of).collect()
}

fn blocks(values: &[&str]) -> Vec<Address> {
    let of = |value: &&str| {
        let block: IpNet = value
            .parse()
            .unwrap_or_else(|_| IpNet::from(value.parse::<IpAddr>().unwrap()));
        let address = match block.addr() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        Address {
            address,
            length: block.prefix_len().into(),
        }
    };
    values.iter().map(of).collect()
}

fn ports(values: &[&str]) -> Vec<u32> {
    values.iter().map(|value| value.parse().unwrap()).collect()
}

/// What the modes of each pod amount to: a DENY of what has no principal, under the name that tells whose mode
/// it is.
fn modes(objects: &[&Object]) -> Vec<Read> {
    let mode = |spec: &Value| {
        spec.get("mtls")
            .map(|mtls| mtls["mode"].as_str().unwrap().to_owned())
    };
    let wide = |namespace: &str| {
        let of = |o: &&&Object| o.namespace == namespace && labels(&o.spec).is_none();
        objects.iter().find(of).and_then(|o| mode(&o.spec))
    };
    let mut all: Vec<Read> = Vec::new();
    for (namespace, ..) in PODS {
        let inherited = wide(namespace).or_else(|| wide(ROOT_NAMESPACE));
        let of_pod = objects
            .iter()
            .find(|o| o.namespace == namespace && labels(&o.spec).is_some());
        let stated = of_pod.and_then(|o| mode(&o.spec)).or(inherited);
        let strict = stated.as_deref() == Some("STRICT");
        let by_port = of_pod
            .and_then(|o| o.spec.get("portLevelMtls"))
            .and_then(Value::as_mapping);
        let differs = |(port, of): (&Value, &Value)| {
            let port_is_strict = of["mode"].as_str() == Some("STRICT");
            (port_is_strict != strict).then(|| port.as_u64().unwrap() as u32)
        };
        let ports: Vec<u32> = by_port.into_iter().flatten().filter_map(differs).collect();
        let mut m = Match {
            not_principals: strings(&["*"]),
            ..Match::default()
        };
        let key = match (of_pod, ports.is_empty(), strict) {
            (_, true, false) => continue,
            (_, true, true) | (None, ..) => {
                (ROOT_NAMESPACE, "istio_converted_static_strict".to_owned())
            }
            (Some(of), ..) => (namespace, format!("istio_converted_{}", of.name)),
        };
        match strict {
            true => m.not_destination_ports = ports,
            false => m.destination_ports = ports,
        }
        let authorization = Authorization {
            namespace: key.0.into(),
            name: key.1,
            scope: Scope::WorkloadSelector.into(),
            action: Action::Deny.into(),
            rules: vec![Rule {
                clauses: vec![Clause { matches: vec![m] }],
            }],
            ..Authorization::default()
        };
        match all
            .iter_mut()
            .find(|read| read.authorization == authorization)
        {
            Some(read) => read.listed_in.push(namespace.into()),
            None => all.push(Read {
                authorization,
                listed_in: vec![namespace.into()],
            }),
        }
    }
    all
}
