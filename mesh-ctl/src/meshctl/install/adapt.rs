//! What an older server does not know is put otherwise, and said.

use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::DynamicObject;

use super::cluster::Server;
use super::error::InstallError;
use super::object::{edit, kind};

/// The first that starts a new pod of a DaemonSet before it ends the old one.
const FIRST_WITH_SURGE: u32 = 22;
const BUDGET: &str = "policy/v1";
const OLD_BUDGET: &str = "policy/v1beta1";
const MONITOR: &str = "monitoring.coreos.com/v1";

/// Changes what this server would refuse; what was changed, and what it costs.
pub(super) fn adapt(
    objects: &mut [DynamicObject],
    server: &Server,
) -> Result<Vec<String>, InstallError> {
    let mut notes = Vec::new();
    for object in objects {
        match kind(object) {
            "PodDisruptionBudget" if !server.serves(BUDGET) && server.serves(OLD_BUDGET) => {
                if let Some(types) = &mut object.types {
                    types.api_version = OLD_BUDGET.to_owned();
                }
                notes.push(format!(
                    "this server has no {BUDGET}: the PodDisruptionBudget is written as {OLD_BUDGET}"
                ));
            }
            "DaemonSet" if server.minor.is_some_and(|minor| minor < FIRST_WITH_SURGE) => {
                edit(object, |agents: &mut DaemonSet| {
                    let strategy = agents.spec.update_strategy.as_mut();
                    if let Some(strategy) = strategy {
                        strategy.rolling_update = Some(RollingUpdateDaemonSet {
                            max_surge: None,
                            max_unavailable: Some(IntOrString::Int(1)),
                        });
                    }
                    Ok(())
                })?;
                notes.push(format!(
                    "Kubernetes 1.{} ends an agent before it starts the next: maxSurge is left out; while agents \
                     are updated, new connections of the node's pods in the mesh are refused, never sent in plaintext",
                    server.minor.unwrap_or_default()
                ));
            }
            "PodMonitor" if !server.serves(MONITOR) => return Err(InstallError::NoPodMonitor),
            _ => {}
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::manifests;
    use super::*;

    fn field(objects: &[DynamicObject], of: &str, pointer: &str) -> Value {
        let object = objects.iter().find(|object| kind(object) == of).unwrap();
        let value = serde_json::to_value(object).unwrap();
        value.pointer(pointer).cloned().unwrap_or_default()
    }

    #[test]
    fn a_server_of_today_gets_the_manifests_as_they_are() {
        let shipped = manifests::all(true).unwrap();
        let mut objects = shipped.clone();
        let server = Server::of(34, &[BUDGET, MONITOR]);
        assert_eq!(adapt(&mut objects, &server).unwrap(), Vec::<String>::new());
        assert_eq!(objects, shipped);
    }

    #[test]
    fn an_old_server_gets_what_it_knows_and_it_is_said() {
        let mut objects = manifests::all(false).unwrap();
        let notes = adapt(&mut objects, &Server::of(20, &[OLD_BUDGET])).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("policy/v1beta1")));
        assert!(
            notes
                .iter()
                .any(|note| note.contains("Kubernetes 1.20") && note.contains("maxSurge"))
        );
        assert_eq!(
            field(&objects, "PodDisruptionBudget", "/apiVersion"),
            OLD_BUDGET
        );
        let rolling = field(&objects, "DaemonSet", "/spec/updateStrategy/rollingUpdate");
        assert_eq!(rolling, json!({"maxUnavailable": 1}));
    }

    #[test]
    fn monitors_without_their_kind_are_refused() {
        let mut objects = manifests::all(true).unwrap();
        let refused = adapt(&mut objects, &Server::of(34, &[BUDGET])).unwrap_err();
        assert!(
            refused.to_string().contains("Prometheus operator"),
            "{refused}"
        );
    }
}
