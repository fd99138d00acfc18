//! Whether workloads are rolled out, and why a pod is not ready, as their status tells it.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rollout {
    pub(super) done: bool,
    /// `1 of 2 available`.
    pub(super) text: String,
}

/// Reasons of a container to wait that say nothing.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Every replica is of the newest version and available, and none of an older one is left.
pub(super) fn deployment(of: &Deployment) -> Rollout {
    let wanted = of.spec.replicas.unwrap_or(1);
    let status = of.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0).min(updated);
    let old = status.replicas.unwrap_or(0) - updated;
    Rollout {
        done: is_observed(of.metadata.generation, status.observed_generation)
            && available >= wanted
            && old <= 0,
        text: match old {
            1.. => format!("{available} of {wanted} available, {old} of an older version left"),
            _ => format!("{available} of {wanted} available"),
        },
    }
}

/// Every node has an agent of the newest version that is available.
pub(super) fn daemon_set(of: &DaemonSet) -> Rollout {
    let status = of.status.clone().unwrap_or_default();
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0).min(updated);
    let is_observed = is_observed(of.metadata.generation, status.observed_generation);
    Rollout {
        done: is_observed && available >= wanted,
        text: match is_observed {
            true => format!("available on {available} of {wanted} nodes"),
            false => "not taken up by the cluster yet".to_owned(),
        },
    }
}

fn is_observed(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.is_some_and(|observed| observed >= generation.unwrap_or(0))
}

/// Why a pod is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its status tells.
    Known(String),
    /// Its status tells only this; its events may tell more.
    Vague(String),
}

/// None of a pod that is ready, or on its way out.
pub(super) fn why_not_ready(pod: &Pod) -> Option<Why> {
    let status = pod.status.clone().unwrap_or_default();
    let condition = |kind: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == kind)
    };
    let is_ready = condition("Ready").is_some_and(|condition| condition.status == "True");
    if is_ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let phase = status.phase.as_deref().unwrap_or("Pending");
    if phase == "Succeeded" {
        return None;
    }
    if let Some(unscheduled) = condition("PodScheduled").filter(|c| c.status == "False") {
        let message = unscheduled
            .message
            .as_deref()
            .or(unscheduled.reason.as_deref());
        return Some(Why::Known(format!(
            "not scheduled: {}",
            message.unwrap_or("no reason given")
        )));
    }
    let init = status.init_container_statuses.iter().flatten();
    let statuses = init.chain(status.container_statuses.iter().flatten());
    let containers: Vec<_> = statuses.filter_map(container).collect();
    let known = containers.iter().find(|why| matches!(why, Why::Known(_)));
    // The pod's own, such as an eviction.
    let own = status.message.or(status.reason);
    let own = own.map(|said| Why::Known(format!("{phase}: {said}")));
    let any = known.or(containers.first()).cloned();
    Some(
        own.or(any)
            .unwrap_or_else(|| Why::Vague(format!("it is {phase}"))),
    )
}

/// Why a container is not ready; nothing of one that is, or that did its work.
fn container(of: &ContainerStatus) -> Option<Why> {
    let state = of.state.clone().unwrap_or_default();
    let name = &of.name;
    let ended = |status: &ContainerStatus| {
        let last = status.last_state.as_ref()?.terminated.clone()?;
        let said = last.message.or(last.reason).unwrap_or_default();
        Some(format!(
            "; last it ended with code {}: {}",
            last.exit_code,
            said.trim()
        ))
    };
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        if reason.is_empty() || ON_ITS_WAY.contains(&reason.as_str()) {
            return Some(Why::Vague(format!("container {name}: {reason}")));
        }
        let message = waiting
            .message
            .map_or_else(String::new, |message| format!(": {message}"));
        let last = ended(of).unwrap_or_default();
        return Some(Why::Known(format!(
            "container {name}: {reason}{message}{last}"
        )));
    }
    if let Some(end) = state.terminated {
        let said = end.message.or(end.reason).unwrap_or_default();
        let text = format!(
            "container {name} ended with code {}: {}",
            end.exit_code,
            said.trim()
        );
        return (end.exit_code != 0).then_some(Why::Known(text));
    }
    (!of.ready).then(|| {
        Why::Vague(format!(
            "container {name} runs and is not ready: its log tells what it waits for"
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_deployment_is_ready_with_all_replicas_of_the_newest_version_and_no_other() {
        for (status, done, text) in [
            (json!({}), false, "0 of 2 available"),
            // Of the version before: nobody has looked at the newest.
            (
                json!({"observedGeneration": 6, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
                false,
                "2 of 2 available",
            ),
            (
                json!({"observedGeneration": 7, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}),
                false,
                "2 of 2 available, 1 of an older version left",
            ),
            (
                json!({"observedGeneration": 7, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
                false,
                "1 of 2 available",
            ),
            (
                json!({"observedGeneration": 7, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
                true,
                "2 of 2 available",
            ),
        ] {
            let found = deployment(&object(json!({
                "metadata": {"generation": 7},
                "spec": {"replicas": 2, "selector": {}, "template": {}},
                "status": status,
            })));
            assert_eq!((found.done, &*found.text), (done, text), "{status}");
        }
    }

    #[test]
    fn a_daemon_set_is_ready_with_a_pod_of_the_newest_version_on_every_node() {
        let status = |observed, updated, available| {
            json!({
                "observedGeneration": observed, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "numberMisscheduled": 0, "numberReady": 3,
                "updatedNumberScheduled": updated, "numberAvailable": available,
            })
        };
        for (status, done, text) in [
            (status(6, 3, 3), false, "not taken up by the cluster yet"),
            (status(7, 2, 3), false, "available on 2 of 3 nodes"),
            (status(7, 3, 2), false, "available on 2 of 3 nodes"),
            (status(7, 3, 3), true, "available on 3 of 3 nodes"),
        ] {
            let found = daemon_set(&object(json!({
                "metadata": {"generation": 7}, "spec": {"selector": {}, "template": {}}, "status": status,
            })));
            assert_eq!((found.done, &*found.text), (done, text), "{status}");
        }
    }

    fn why(status: &Value) -> Option<Why> {
        why_not_ready(&object(
            json!({"metadata": {"name": "p"}, "status": status}),
        ))
    }

    fn containers(state: &Value, last: &Value) -> Value {
        let status = |name: &str, ready: bool, state: &Value, last: &Value| {
            json!({
                "name": name, "image": "", "imageID": "", "restartCount": 0, "ready": ready, "state": state,
                "lastState": last,
            })
        };
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        json!({
            "phase": "Running",
            "initContainerStatuses": [status("first", true, &done, &json!({}))],
            "containerStatuses": [
                status("well", true, &json!({"running": {}}), &json!({})),
                status("ill", false, state, last),
            ],
        })
    }

    #[test]
    fn the_reason_is_the_one_that_tells_most() {
        let unschedulable = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"},
        ]});
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let last = json!({"terminated": {"exitCode": 1, "message": "no BTF\n"}});
        for (status, text) in [
            (unschedulable, "not scheduled: 0/1 nodes are available"),
            (
                containers(&crash, &last),
                "container ill: CrashLoopBackOff: back-off 10s; last it ended with code 1: no BTF",
            ),
            (
                containers(&last, &json!({})),
                "container ill ended with code 1: no BTF",
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "out of memory"}),
                "Failed: out of memory",
            ),
        ] {
            assert_eq!(why(&status), Some(Why::Known(text.to_owned())), "{status}");
        }
        for (status, text) in [
            (json!({}), "it is Pending"),
            (
                containers(
                    &json!({"waiting": {"reason": "ContainerCreating"}}),
                    &json!({}),
                ),
                "container ill: ContainerCreating",
            ),
            (
                containers(&json!({"running": {}}), &json!({})),
                "container ill runs and is not ready: its log tells what it waits for",
            ),
        ] {
            assert_eq!(why(&status), Some(Why::Vague(text.to_owned())), "{status}");
        }
    }

    #[test]
    fn a_pod_that_is_ready_or_on_its_way_out_has_no_reason() {
        assert_eq!(
            why(&json!({"conditions": [{"type": "Ready", "status": "True"}]})),
            None
        );
        assert_eq!(why(&json!({"phase": "Succeeded"})), None);
        let leaving =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {}});
        assert_eq!(why_not_ready(&object(leaving)), None);
    }
}
