use super::*;
use crate::proto::workload::load_balancing as wire_lb;

fn workload() -> wire::Workload {
    wire::Workload {
        uid: "c//Pod/shop/web".into(),
        name: "web".into(),
        namespace: "shop".into(),
        ..Default::default()
    }
}

fn service() -> wire::Service {
    wire::Service {
        namespace: "shop".into(),
        hostname: "web.shop.svc".into(),
        ..Default::default()
    }
}

#[test]
fn absent_fields_have_their_meaning() {
    let decoded = Workload::try_from(workload()).unwrap();
    assert_eq!(
        decoded.identity().to_string(),
        "spiffe://cluster.local/ns/shop/sa/default"
    );
    assert_eq!(&*decoded.service_account, "default");
    assert_eq!(decoded.trust_domain.as_str(), "cluster.local");
    assert_eq!(
        (decoded.capacity, decoded.healthy, decoded.host_network),
        (1, true, false)
    );
    assert_eq!((decoded.tunnel, decoded.waypoint), (Tunnel::None, false));
    let decoded = Service::try_from(service()).unwrap();
    assert_eq!(decoded.load_balancing, LoadBalancing::default());
    assert_eq!(&**decoded.key(), "shop/web.shop.svc");
}

#[test]
fn every_field_is_carried_over() {
    let port = wire::Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 99,
    };
    let list = wire::PortList { ports: vec![port] };
    let from = wire::Workload {
        trust_domain: "td".into(),
        service_account: "sa".into(),
        addresses: vec![
            vec![10, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2].into(),
        ],
        tunnel_protocol: wire::TunnelProtocol::Hbone as i32,
        network_mode: wire::NetworkMode::HostNetwork as i32,
        workload_type: wire::WorkloadType::Cronjob as i32,
        status: wire::WorkloadStatus::Unhealthy as i32,
        capacity: Some(0),
        locality: Some(wire::Locality {
            region: "r".into(),
            zone: "z".into(),
            subzone: "s".into(),
        }),
        services: [("shop/web".to_owned(), list)].into(),
        authorization_policies: vec!["shop/p".into()],
        waypoint: Some(wire::GatewayAddress::default()),
        ..workload()
    };
    let decoded = Workload::try_from(from).unwrap();
    assert_eq!(decoded.identity().to_string(), "spiffe://td/ns/shop/sa/sa");
    let addresses: Vec<_> = decoded.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        (decoded.tunnel, decoded.host_network),
        (Tunnel::Hbone, true)
    );
    assert_eq!(
        (&*decoded.workload_type, decoded.healthy, decoded.capacity),
        ("cronjob", false, 0)
    );
    assert_eq!(
        (&*decoded.locality.region, &*decoded.locality.subzone),
        ("r", "s")
    );
    let port = ServicePort {
        service_port: 80,
        target_port: 8080,
    };
    assert_eq!(decoded.services["shop/web"], [port]);
    assert_eq!(*decoded.policies, ["shop/p".into()]);
    assert!(decoded.waypoint);
}

#[test]
fn errors_of_workloads_name_object_and_field() {
    let port = |service_port, target_port| {
        let port = wire::Port {
            service_port,
            target_port,
            app_protocol: 0,
        };
        [("shop/web".to_owned(), wire::PortList { ports: vec![port] })].into()
    };
    let cases = [
        (
            wire::Workload {
                uid: String::new(),
                ..workload()
            },
            "uid",
        ),
        (
            wire::Workload {
                name: String::new(),
                ..workload()
            },
            "name",
        ),
        (
            wire::Workload {
                namespace: String::new(),
                ..workload()
            },
            "namespace or service_account",
        ),
        (
            wire::Workload {
                service_account: "a/b".into(),
                ..workload()
            },
            "namespace or service_account",
        ),
        (
            wire::Workload {
                trust_domain: "TD".into(),
                ..workload()
            },
            "trust_domain",
        ),
        (
            wire::Workload {
                addresses: vec![vec![1]],
                ..workload()
            },
            "addresses[0]",
        ),
        (
            wire::Workload {
                tunnel_protocol: 9,
                ..workload()
            },
            "tunnel_protocol",
        ),
        (
            wire::Workload {
                network_mode: 9,
                ..workload()
            },
            "network_mode",
        ),
        (
            wire::Workload {
                services: port(70000, 1),
                ..workload()
            },
            "services[\"shop/web\"].ports[0].service_port",
        ),
        (
            wire::Workload {
                services: port(1, 70000),
                ..workload()
            },
            "services[\"shop/web\"].ports[0].target_port",
        ),
        (
            wire::Workload {
                services: [("web".to_owned(), wire::PortList::default())].into(),
                ..workload()
            },
            "services",
        ),
    ];
    for (from, field) in cases {
        let uid = from.uid.clone();
        let error = Workload::try_from(from).unwrap_err();
        assert_eq!(error.field, field);
        assert_eq!(error.object, format!("workload {uid:?}"));
    }
}

#[test]
fn what_is_new_and_harmless_is_taken_in_the_careful_sense() {
    let from = wire::Workload {
        status: 9,
        workload_type: 9,
        ..workload()
    };
    let decoded = Workload::try_from(from).unwrap();
    assert!(!decoded.healthy);
    assert_eq!(&*decoded.workload_type, "pod");
}

#[test]
fn services_are_carried_over() {
    let from = wire::Service {
        ports: vec![wire::Port {
            service_port: 80,
            target_port: 0,
            app_protocol: 0,
        }],
        subject_alt_names: vec!["spiffe://td/ns/a/sa/b".into()],
        weighted_waypoints: vec![wire::WeightedWaypoint::default()],
        load_balancing: Some(wire::LoadBalancing {
            routing_preference: vec![
                wire_lb::Scope::UnspecifiedScope as i32,
                wire_lb::Scope::Zone as i32,
                wire_lb::Scope::Node as i32,
            ],
            mode: wire_lb::Mode::Failover as i32,
            health_policy: wire_lb::HealthPolicy::AllowAll as i32,
        }),
        ..service()
    };
    let decoded = Service::try_from(from).unwrap();
    assert_eq!(
        decoded.subject_alt_names,
        ["spiffe://td/ns/a/sa/b".parse().unwrap()]
    );
    assert!(decoded.waypoint && decoded.load_balancing.allow_unhealthy);
    assert_eq!(decoded.load_balancing.mode, Mode::Failover);
    assert_eq!(decoded.load_balancing.scopes, [Scope::Zone, Scope::Node]);
}

#[test]
fn a_range_is_no_virtual_address() {
    let address = |length| wire::NetworkAddress {
        address: vec![10, 96, 0, 1],
        length,
        ..Default::default()
    };
    let addresses = vec![address(None), address(Some(32)), address(Some(24))];
    let decoded = Service::try_from(wire::Service {
        addresses,
        ..service()
    })
    .unwrap();
    assert_eq!(decoded.vips.len(), 2);
}

#[test]
fn errors_of_services_name_object_and_field() {
    let balancing = |mode, scope| {
        let routing_preference = vec![scope];
        Some(wire::LoadBalancing {
            mode,
            routing_preference,
            health_policy: 0,
        })
    };
    let address = wire::NetworkAddress {
        address: vec![1, 2],
        ..Default::default()
    };
    let ports = vec![wire::Port {
        service_port: 1 << 16,
        ..Default::default()
    }];
    let cases = [
        (
            wire::Service {
                namespace: String::new(),
                ..service()
            },
            "namespace",
        ),
        (
            wire::Service {
                hostname: String::new(),
                ..service()
            },
            "hostname",
        ),
        (
            wire::Service {
                addresses: vec![address],
                ..service()
            },
            "addresses[0].address",
        ),
        (
            wire::Service { ports, ..service() },
            "ports[0].service_port",
        ),
        (
            wire::Service {
                subject_alt_names: vec!["web".into()],
                ..service()
            },
            "subject_alt_names[0]",
        ),
        (
            wire::Service {
                load_balancing: balancing(9, 1),
                ..service()
            },
            "load_balancing.mode",
        ),
        (
            wire::Service {
                load_balancing: balancing(1, 9),
                ..service()
            },
            "load_balancing.routing_preference",
        ),
    ];
    for (from, field) in cases {
        let key = format!("{}/{}", from.namespace, from.hostname);
        let error = Service::try_from(from).unwrap_err();
        assert_eq!(
            (error.object, error.field),
            (format!("service {key:?}"), field.to_owned())
        );
    }
}
