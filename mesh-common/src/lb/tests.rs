use super::*;
use crate::proto::workload as wire;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

const KEY: &str = "shop/web";

/// An endpoint; `at` is region/zone/node.
fn endpoint(name: &str, at: &str) -> wire::Workload {
    let (region, rest) = at.split_once('/').unwrap();
    let (zone, node) = rest.split_once('/').unwrap();
    let ports = vec![wire::Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 0,
    }];
    wire::Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "shop".into(),
        addresses: vec![vec![10, 0, 0, 1]],
        node: node.into(),
        locality: Some(wire::Locality {
            region: region.into(),
            zone: zone.into(),
            ..Default::default()
        }),
        services: [(KEY.to_owned(), wire::PortList { ports })].into(),
        ..Default::default()
    }
}

fn service(mode: wire::load_balancing::Mode) -> wire::Service {
    use wire::load_balancing::Scope;
    wire::Service {
        namespace: "shop".into(),
        hostname: "web".into(),
        ports: vec![wire::Port {
            service_port: 80,
            target_port: 0,
            app_protocol: 0,
        }],
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: vec![Scope::Region as i32, Scope::Zone as i32, Scope::Node as i32],
            mode: mode as i32,
            health_policy: 0,
        }),
        ..Default::default()
    }
}

fn any() -> wire::Service {
    service(wire::load_balancing::Mode::UnspecifiedMode)
}

/// How often each endpoint is chosen in 4000 tries by a client at r1/z1/n1.
fn spread(
    service: &wire::Service,
    endpoints: &[wire::Workload],
    load: impl Fn(&str) -> u32,
    tried: &[&str],
) -> BTreeMap<String, u32> {
    let service = Service::try_from(service.clone()).unwrap();
    let client = Workload::try_from(endpoint("client", "r1/z1/n1")).unwrap();
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|w| Arc::new(Workload::try_from(w.clone()).unwrap()))
        .collect();
    let tried: Vec<Arc<str>> = tried.iter().map(|uid| (*uid).into()).collect();
    let mut rng = StdRng::seed_from_u64(7);
    let mut counts = BTreeMap::new();
    for _ in 0..4000 {
        let load = |w: &Workload| load(&w.uid);
        let chosen = choose(
            &service,
            80,
            &client,
            endpoints.iter(),
            load,
            &tried,
            &mut rng,
        );
        if let Some((workload, port)) = chosen {
            assert_eq!(port, 8080);
            *counts.entry(workload.uid.to_string()).or_default() += 1;
        }
    }
    counts
}

fn chosen(service: &wire::Service, endpoints: &[wire::Workload], tried: &[&str]) -> Vec<String> {
    spread(service, endpoints, |_| 0, tried)
        .into_keys()
        .collect()
}

#[test]
fn nothing_comes_from_nothing() {
    assert!(chosen(&any(), &[], &[]).is_empty());
    assert!(chosen(&any(), &[endpoint("a", "r1/z1/n1")], &["a"]).is_empty());
}

#[test]
fn equal_endpoints_share_alike() {
    let endpoints = ["a", "b", "c", "d"].map(|name| endpoint(name, "r1/z1/n1"));
    let counts = spread(&any(), &endpoints, |_| 0, &[]);
    assert_eq!(counts.len(), 4);
    assert!(
        counts.values().all(|n| (850..1150).contains(n)),
        "{counts:?}"
    );
}

#[test]
fn capacity_weighs() {
    let big = wire::Workload {
        capacity: Some(3),
        ..endpoint("big", "r1/z1/n1")
    };
    let none = wire::Workload {
        capacity: Some(0),
        ..endpoint("none", "r1/z1/n1")
    };
    let huge = wire::Workload {
        capacity: Some(u32::MAX),
        ..endpoint("huge", "r1/z1/n1")
    };
    let counts = spread(
        &any(),
        &[big, endpoint("small", "r1/z1/n1"), none],
        |_| 0,
        &[],
    );
    assert_eq!(counts.len(), 2);
    assert!((2850..3150).contains(&counts["big"]), "{counts:?}");
    let two = [
        huge.clone(),
        wire::Workload {
            uid: "huge2".into(),
            ..huge
        },
    ];
    assert_eq!(spread(&any(), &two, |_| u32::MAX, &[]).len(), 2);
}

#[test]
fn the_less_loaded_for_its_capacity_is_taken() {
    let endpoints = ["a", "b"].map(|name| endpoint(name, "r1/z1/n1"));
    let loads = |uid: &str| if uid == "a" { 5 } else { 4 };
    assert_eq!(
        spread(&any(), &endpoints, loads, &[])
            .into_keys()
            .collect::<Vec<_>>(),
        ["b"]
    );
    let big = wire::Workload {
        capacity: Some(2),
        ..endpoint("a", "r1/z1/n1")
    };
    let endpoints = [big, endpoint("b", "r1/z1/n1")];
    assert_eq!(
        spread(&any(), &endpoints, loads, &[])
            .into_keys()
            .collect::<Vec<_>>(),
        ["a"]
    );
    // Of many, the most loaded is never taken: one of any two others is better.
    let endpoints = ["a", "b", "c", "d"].map(|name| endpoint(name, "r1/z1/n1"));
    let counts = spread(&any(), &endpoints, |uid| u32::from(uid == "c"), &[]);
    assert_eq!(counts.into_keys().collect::<Vec<_>>(), ["a", "b", "d"]);
}

#[test]
fn tried_endpoints_are_skipped() {
    let endpoints = ["a", "b", "c"].map(|name| endpoint(name, "r1/z1/n1"));
    assert_eq!(chosen(&any(), &endpoints, &["a", "c"]), ["b"]);
}

#[test]
fn only_ready_endpoints_unless_all_are_wanted() {
    let status = wire::WorkloadStatus::Unhealthy as i32;
    let sick = wire::Workload {
        status,
        ..endpoint("sick", "r1/z1/n1")
    };
    let endpoints = [sick, endpoint("well", "r1/z1/n1")];
    assert_eq!(chosen(&any(), &endpoints, &[]), ["well"]);
    let mut all = any();
    all.load_balancing.as_mut().unwrap().health_policy =
        wire::load_balancing::HealthPolicy::AllowAll as i32;
    assert_eq!(chosen(&all, &endpoints, &[]), ["sick", "well"]);
}

#[test]
fn failover_goes_from_near_to_far() {
    let service = service(wire::load_balancing::Mode::Failover);
    let endpoints = [
        endpoint("node", "r1/z1/n1"),
        endpoint("zone", "r1/z1/n2"),
        endpoint("region", "r1/z2/n3"),
        endpoint("far", "r2/z1/n1"),
    ];
    let mut tried = Vec::new();
    for next in ["node", "zone", "region", "far"] {
        assert_eq!(chosen(&service, &endpoints, &tried), [next]);
        tried.push(next);
    }
    let status = wire::WorkloadStatus::Unhealthy as i32;
    let near = wire::Workload {
        status,
        ..endpoint("near", "r1/z1/n1")
    };
    assert_eq!(
        chosen(&service, &[near, endpoint("far", "r2/z1/n1")], &[]),
        ["far"]
    );
}

#[test]
fn strict_takes_only_what_matches_every_scope() {
    let service = service(wire::load_balancing::Mode::Strict);
    let endpoints = [endpoint("zone", "r1/z1/n2"), endpoint("far", "r2/z1/n1")];
    assert!(chosen(&service, &endpoints, &[]).is_empty());
    assert_eq!(
        chosen(&service, &[endpoint("node", "r1/z1/n1")], &[]),
        ["node"]
    );
}

#[test]
fn without_a_mode_locality_does_not_matter() {
    let endpoints = [endpoint("near", "r1/z1/n1"), endpoint("far", "r2/z2/n2")];
    assert_eq!(chosen(&any(), &endpoints, &[]), ["far", "near"]);
}

#[test]
fn what_cannot_be_reached_is_left_out() {
    let endpoints = [
        wire::Workload {
            network: "other".into(),
            ..endpoint("a", "r1/z1/n1")
        },
        wire::Workload {
            addresses: vec![],
            ..endpoint("b", "r1/z1/n1")
        },
        wire::Workload {
            services: [].into(),
            ..endpoint("c", "r1/z1/n1")
        },
        wire::Workload {
            services: [(KEY.to_owned(), wire::PortList::default())].into(),
            ..endpoint("d", "r1/z1/n1")
        },
        endpoint("good", "r1/z1/n1"),
    ];
    assert_eq!(chosen(&any(), &endpoints, &[]), ["good"]);
}

#[test]
fn the_workloads_port_comes_before_the_services() {
    let port = |target_port| {
        let mut service = any();
        service.ports[0].target_port = 9090;
        let service = Service::try_from(service).unwrap();
        let ports = vec![wire::Port {
            service_port: 80,
            target_port,
            app_protocol: 0,
        }];
        let services = [(KEY.to_owned(), wire::PortList { ports })].into();
        let workload = wire::Workload {
            services,
            ..endpoint("a", "r1/z1/n1")
        };
        let workload = Arc::new(Workload::try_from(workload).unwrap());
        let of = |port| {
            let all = std::iter::once(&workload);
            choose(
                &service,
                port,
                &workload,
                all,
                |_| 0,
                &[],
                &mut StdRng::seed_from_u64(1),
            )
            .map(|(_, port)| port)
        };
        assert_eq!(of(81), None);
        of(80)
    };
    assert_eq!(port(8080), Some(8080));
    assert_eq!(port(0), Some(9090));
}
