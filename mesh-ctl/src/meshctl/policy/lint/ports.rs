//! Ports that rules name.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Code;
use super::world::{PEER, POLICY, World};
use crate::model::ObjectName;

pub(super) fn check(world: &mut World<'_>) {
    for (name, policy) in world.policies() {
        if policy.has_target {
            continue;
        }
        let ports = Ports::of(world, world.pods(name, policy.selector.as_ref()));
        for (n, rule) in policy.rules.iter().enumerate() {
            for (part, terms) in rule.parts.iter().enumerate() {
                for (term, of) in terms.iter().enumerate() {
                    let field = format!("spec.rules[{n}].{}", rule.field(part, term));
                    let lists = match field.contains(".when[") {
                        true => ["values", "notValues"],
                        false => ["ports", "notPorts"],
                    };
                    let stated = [&of.l4.destination_ports, &of.l4.not_destination_ports];
                    for (list, stated) in lists.into_iter().zip(stated) {
                        for (i, port) in stated.iter().enumerate() {
                            let field = format!("{field}.{list}[{i}]");
                            let port = u16::try_from(*port).unwrap_or_default();
                            ports.check(world, (POLICY, name), &field, port);
                        }
                    }
                }
            }
        }
    }
    for (name, peer) in world.peers() {
        let ports = Ports::of(world, world.pods_of_peer(name, peer));
        for port in peer.ports.keys() {
            let field = format!("spec.portLevelMtls[{port}]");
            ports.check(world, (PEER, name), &field, *port);
        }
    }
}

/// The ports of the pods that a policy is for.
struct Ports {
    /// What their containers declare, and where services lead.
    own: BTreeSet<u16>,
    /// Ports of services, with the ports of the pods that they lead to.
    of_services: BTreeMap<u16, BTreeSet<(String, u16)>>,
}

impl Ports {
    fn of<'a>(
        world: &World<'a>,
        pods: impl Iterator<Item = (&'a ObjectName, &'a crate::model::Pod)>,
    ) -> Self {
        let mut ports = Self {
            own: BTreeSet::new(),
            of_services: BTreeMap::new(),
        };
        for (name, pod) in pods {
            ports.own.extend(&pod.declared_ports);
            for (port, targets) in world.service_ports(name) {
                ports.own.extend(targets.iter().map(|(_, target)| *target));
                ports.of_services.entry(port).or_default().extend(targets);
            }
        }
        ports
    }

    fn check(
        &self,
        world: &mut World<'_>,
        object: (&'static str, &ObjectName),
        field: &str,
        port: u16,
    ) {
        // Where nothing is declared, nothing is known.
        if self.own.contains(&port) || self.own.is_empty() {
            return;
        }
        if let Some((service, target)) = self.of_services.get(&port).and_then(BTreeSet::first) {
            let what = format!(
                "{port} is the port of service {service}; rules see the port of the pod, which is {target}"
            );
            let remedy = format!("write {target}");
            world.note(Code::ServicePort, object, field, what, remedy);
            return;
        }
        let own: Vec<_> = self.own.iter().map(ToString::to_string).collect();
        let what = format!(
            "no pod that it is for declares port {port}; they declare {}",
            own.join(", ")
        );
        let remedy = "correct it, or declare the port in the pod";
        world.note(Code::UnknownPort, object, field, what, remedy);
    }
}
