use super::*;
use crate::policy::{Connection, Reason, decide};
use crate::proto::security::{Action, Authorization, Scope};
use wire::address::Type;

fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn uid(name: &str) -> String {
    format!("c//Pod/shop/{name}")
}

fn workload(name: &str, ips: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: uid(name),
        name: name.into(),
        namespace: "shop".into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        ..Default::default()
    }
}

fn service(host: &str, vips: &[&str]) -> wire::Service {
    wire::Service {
        name: host.into(),
        namespace: "shop".into(),
        hostname: host.into(),
        addresses: vips
            .iter()
            .map(|ip| wire::NetworkAddress {
                address: bytes(ip),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn in_service(host: &str, workload: wire::Workload) -> wire::Workload {
    let services = [(format!("shop/{host}"), wire::PortList::default())].into();
    wire::Workload {
        services,
        ..workload
    }
}

fn policy(name: &str, scope: Scope) -> Authorization {
    Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: scope as i32,
        action: Action::Allow as i32,
        ..Default::default()
    }
}

struct Mesh(SnapshotBuilder);

impl Mesh {
    fn new() -> Self {
        Self(SnapshotBuilder::default())
    }

    fn add(&mut self, workload: wire::Workload) {
        let name = workload.uid.clone();
        let address = wire::Address {
            r#type: Some(Type::Workload(workload)),
        };
        self.0.upsert_address(&name, address).unwrap();
    }

    fn add_service(&mut self, service: wire::Service) {
        let name = format!("{}/{}", service.namespace, service.hostname);
        let address = wire::Address {
            r#type: Some(Type::Service(service)),
        };
        self.0.upsert_address(&name, address).unwrap();
    }

    fn remove(&mut self, name: &str) {
        self.0.remove_address(&uid(name));
    }

    fn now(&self) -> Snapshot {
        self.0.to_snapshot()
    }

    fn at(&self, ip: &str) -> Option<String> {
        self.now()
            .workload_by_ip(ip.parse().unwrap())
            .map(|w| w.name.to_string())
    }

    fn behind(&self, service: &str) -> Vec<String> {
        let now = self.now();
        let service = now.service(&format!("shop/{service}")).unwrap();
        now.endpoints(service).map(|w| w.name.to_string()).collect()
    }
}

#[test]
fn a_workload_is_found_every_way_and_gone_every_way() {
    let mut mesh = Mesh::new();
    mesh.add(in_service("web", workload("a", &["10.0.0.1", "fd00::1"])));
    mesh.add_service(service("web", &["10.96.0.1"]));
    let now = mesh.now();
    let a = now.workload(&uid("a")).unwrap();
    assert!(Arc::ptr_eq(a, now.workload_by_name("shop", "a").unwrap()));
    for ip in ["10.0.0.1", "fd00::1", "::ffff:10.0.0.1"] {
        assert!(
            Arc::ptr_eq(a, now.workload_by_ip(ip.parse().unwrap()).unwrap()),
            "{ip}"
        );
    }
    assert_eq!(mesh.behind("web"), ["a"]);
    mesh.remove("a");
    let later = mesh.now();
    assert!(later.workload(&uid("a")).is_none());
    assert!(later.workload_by_name("shop", "a").is_none());
    assert_eq!((mesh.at("10.0.0.1"), mesh.at("fd00::1")), (None, None));
    assert!(mesh.behind("web").is_empty());
    assert_eq!((now.workloads().count(), later.workloads().count()), (1, 0));
}

#[test]
fn a_removed_workload_does_not_take_a_reused_address_away() {
    let mut mesh = Mesh::new();
    mesh.add(workload("old", &["10.0.0.1"]));
    mesh.add(workload("new", &["10.0.0.1"]));
    assert_eq!(mesh.at("10.0.0.1").as_deref(), Some("new"));
    mesh.remove("old");
    assert_eq!(mesh.at("10.0.0.1").as_deref(), Some("new"));
    mesh.remove("new");
    assert_eq!(mesh.at("10.0.0.1"), None);
}

#[test]
fn an_update_of_the_old_workload_does_not_take_a_reused_address_back() {
    let mut mesh = Mesh::new();
    mesh.add(workload("old", &["10.0.0.1"]));
    mesh.add(workload("new", &["10.0.0.1"]));
    let unhealthy = wire::WorkloadStatus::Unhealthy as i32;
    mesh.add(wire::Workload {
        status: unhealthy,
        ..workload("old", &["10.0.0.1"])
    });
    assert_eq!(mesh.at("10.0.0.1").as_deref(), Some("new"));
    // The new one goes first: the address is the old one's again, in its newest form.
    mesh.remove("new");
    let now = mesh.now();
    let held = now.workload_by_ip("10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!((&*held.name, held.healthy), ("old", false));
}

#[test]
fn a_workload_that_changes_leaves_nothing_behind() {
    let mut mesh = Mesh::new();
    mesh.add_service(service("web", &[]));
    mesh.add_service(service("api", &[]));
    mesh.add(in_service("web", workload("a", &["10.0.0.1", "10.0.0.2"])));
    mesh.add(in_service("api", workload("a", &["10.0.0.2", "10.0.0.3"])));
    let held = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| mesh.at(ip).is_some());
    assert_eq!(held, [false, true, true]);
    assert!(mesh.behind("web").is_empty());
    assert_eq!(mesh.behind("api"), ["a"]);
    assert_eq!(mesh.now().workloads().count(), 1);
}

#[test]
fn workloads_on_the_nodes_network_have_no_address_of_their_own() {
    let mut mesh = Mesh::new();
    let mode = wire::NetworkMode::HostNetwork as i32;
    mesh.add(wire::Workload {
        network_mode: mode,
        ..workload("a", &["10.0.0.1"])
    });
    assert_eq!(mesh.at("10.0.0.1"), None);
    assert!(mesh.now().workload_by_name("shop", "a").is_some());
    mesh.add(workload("a", &["10.0.0.1"]));
    assert!(mesh.at("10.0.0.1").is_some());
    mesh.add(wire::Workload {
        network_mode: mode,
        ..workload("a", &["10.0.0.1"])
    });
    assert_eq!(mesh.at("10.0.0.1"), None);
}

#[test]
fn the_same_name_in_two_clusters() {
    let mut mesh = Mesh::new();
    mesh.add(workload("a", &["10.0.0.1"]));
    mesh.add(wire::Workload {
        uid: "other//Pod/shop/a".into(),
        ..workload("a", &["10.9.0.1"])
    });
    assert_eq!(mesh.now().workloads().count(), 2);
    mesh.0.remove_address("other//Pod/shop/a");
    let now = mesh.now();
    assert_eq!(&*now.workload_by_name("shop", "a").unwrap().uid, uid("a"));
}

#[test]
fn services_and_their_virtual_addresses() {
    let mut mesh = Mesh::new();
    let vip = |mesh: &Mesh, ip: &str| {
        mesh.now()
            .service_by_vip(ip.parse().unwrap())
            .map(|s| s.key().to_string())
    };
    mesh.add_service(service("web", &["10.96.0.1", "fd00:96::1"]));
    assert_eq!(vip(&mesh, "10.96.0.1").as_deref(), Some("shop/web"));
    assert_eq!(vip(&mesh, "::ffff:10.96.0.1").as_deref(), Some("shop/web"));
    mesh.add_service(service("web", &["10.96.0.2"]));
    assert_eq!(
        (vip(&mesh, "10.96.0.1"), vip(&mesh, "fd00:96::1")),
        (None, None)
    );
    mesh.add_service(service("api", &["10.96.0.2"]));
    mesh.0.remove_address("shop/web");
    assert_eq!(vip(&mesh, "10.96.0.2").as_deref(), Some("shop/api"));
    assert_eq!(mesh.now().services().count(), 1);
}

#[test]
fn a_snapshot_does_not_change_with_its_builder() {
    let mut mesh = Mesh::new();
    mesh.add(workload("a", &["10.0.0.1"]));
    let before = mesh.now();
    mesh.remove("a");
    mesh.add(workload("b", &["10.0.0.1"]));
    assert_eq!(
        &*before
            .workload_by_ip("10.0.0.1".parse().unwrap())
            .unwrap()
            .name,
        "a"
    );
    assert_eq!(mesh.at("10.0.0.1").as_deref(), Some("b"));
}

#[test]
fn a_bad_resource_leaves_the_last_good_one_and_names_object_and_field() {
    let mut mesh = Mesh::new();
    mesh.add(workload("a", &["10.0.0.1"]));
    let mut bad = workload("a", &[]);
    bad.addresses = vec![vec![10, 0, 0, 2], vec![1, 2, 3]];
    let address = wire::Address {
        r#type: Some(Type::Workload(bad)),
    };
    let error = mesh.0.upsert_address(&uid("a"), address).unwrap_err();
    assert_eq!(error.object, "workload \"c//Pod/shop/a\"");
    assert_eq!(error.field, "addresses[1]");
    assert_eq!(mesh.at("10.0.0.1").as_deref(), Some("a"));

    let empty = wire::Address { r#type: None };
    assert_eq!(mesh.0.upsert_address("x", empty).unwrap_err().field, "type");
    let address = wire::Address {
        r#type: Some(Type::Workload(workload("b", &[]))),
    };
    let error = mesh.0.upsert_address(&uid("a"), address).unwrap_err();
    assert_eq!(
        (error.field.as_str(), mesh.now().workloads().count()),
        ("name", 1)
    );
}

fn verdict(snapshot: &Snapshot, name: &str) -> crate::policy::Verdict {
    let workload = snapshot.workload_by_name("shop", name).unwrap();
    let conn = Connection {
        source: "10.0.0.9:1".parse().unwrap(),
        destination: "10.0.0.1:80".parse().unwrap(),
        principal: None,
    };
    decide(&snapshot.policies_for(workload), &conn)
}

#[test]
fn policies_reach_the_workloads_that_name_them() {
    let mut mesh = Mesh::new();
    let named = vec!["shop/p".to_owned()];
    mesh.add(wire::Workload {
        authorization_policies: named,
        ..workload("a", &[])
    });
    mesh.add(workload("b", &[]));
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::MissingPolicy);
    assert_eq!(verdict(&mesh.now(), "b").reason, Reason::NoPolicy);
    mesh.0
        .upsert_policy("shop/p", policy("p", Scope::WorkloadSelector))
        .unwrap();
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::NoAllowMatched);
    assert_eq!(mesh.now().policies().count(), 1);
    mesh.0.remove_policy("shop/p");
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::MissingPolicy);
}

#[test]
fn a_bad_policy_keeps_the_last_good_one_and_denies_without_one() {
    let mut mesh = Mesh::new();
    mesh.add(workload("a", &[]));
    let bad = || Authorization {
        action: 9,
        ..policy("p", Scope::Namespace)
    };
    assert_eq!(
        mesh.0.upsert_policy("shop/p", bad()).unwrap_err().field,
        "action"
    );
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::MissingPolicy);

    mesh.0
        .upsert_policy("shop/p", policy("p", Scope::Namespace))
        .unwrap();
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::NoAllowMatched);
    assert!(mesh.0.upsert_policy("shop/p", bad()).is_err());
    mesh.0.unreadable_policy("shop/p");
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::NoAllowMatched);

    mesh.0.remove_policy("shop/p");
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::NoPolicy);
    mesh.0.unreadable_policy("shop/q");
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::MissingPolicy);
    mesh.0.remove_policy("shop/q");
    assert_eq!(verdict(&mesh.now(), "a").reason, Reason::NoPolicy);

    let error = mesh
        .0
        .upsert_policy("shop/x", policy("p", Scope::Namespace))
        .unwrap_err();
    assert_eq!(error.field, "name");
}
