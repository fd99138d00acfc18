//! Whom policies are for.

use super::finding::Code;
use super::world::{PEER, POLICY, World};
use crate::model::{Action, Labels, ObjectName};

pub(super) fn check(world: &mut World<'_>) {
    for (name, policy) in world.policies() {
        if policy.has_target {
            let what = "it is for a waypoint, which does not run yet: agents are not sent it";
            let remedy = "select workloads with spec.selector, or remove it";
            world.note(
                Code::NotSent,
                (POLICY, name),
                "spec.targetRefs",
                what,
                remedy,
            );
        } else if policy.action == Action::Custom {
            let what =
                "it asks an external authorizer, which agents do not have: they are not sent it";
            let remedy = "write ALLOW or DENY, or remove it";
            world.note(Code::NotSent, (POLICY, name), "spec.action", what, remedy);
        } else {
            let pods = world.pods(name, policy.selector.as_ref());
            let pods: Vec<_> = pods.map(|(pod, _)| pod).collect();
            let reach = match world.is_root(&name.namespace) {
                true => "the mesh".to_owned(),
                false => format!("namespace {}", name.namespace),
            };
            workloads(
                world,
                (POLICY, name),
                policy.selector.as_ref(),
                &pods,
                &reach,
            );
        }
    }
    for (name, peer) in world.peers() {
        let pods = world.pods_of_peer(name, peer);
        let pods: Vec<_> = pods.map(|(pod, _)| pod).collect();
        let reach = format!("namespace {}", name.namespace);
        workloads(world, (PEER, name), peer.selector.as_ref(), &pods, &reach);
    }
}

fn workloads(
    world: &mut World<'_>,
    object: (&'static str, &ObjectName),
    selector: Option<&Labels>,
    pods: &[&ObjectName],
    reach: &str,
) {
    let Some(selector) = selector.filter(|_| !world.offline.objects.pods.is_empty()) else {
        return;
    };
    let field = "spec.selector.matchLabels";
    let labels = describe(selector);
    if pods.is_empty() {
        let what = format!("no pod of {reach} has the labels {labels}, so it is for no workload");
        let remedy = "correct the labels, or remove the policy";
        world.note(Code::SelectsNothing, object, field, what, remedy);
        return;
    }
    let with_address = pods.iter().any(|pod| world.workload(pod).is_some());
    if with_address && !pods.iter().any(|pod| world.is_enrolled(pod)) {
        let what = format!(
            "no pod with the labels {labels} is enrolled in the mesh, so nothing enforces it"
        );
        let label = &world.mesh.dataplane_label;
        let value = &world.mesh.dataplane_value;
        let remedy = format!("label their namespace {label}={value}");
        world.note(Code::NotEnrolled, object, field, what, remedy);
    }
}

fn describe(labels: &Labels) -> String {
    let one = |(key, value): (&String, &String)| format!("{key}={value}");
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}
