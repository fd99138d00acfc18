//! What applying would do, by the word of the API server: nothing is changed to find out.

use kube::Error;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::Status;
use serde::Serialize;

use super::cluster::Cluster;
use super::diff::{self, Change};
use super::error::{Conflict, InstallError};
use super::object::{Id, is_ours, kind};

/// By this name the API server remembers which fields are from here.
const MANAGER: &str = "meshctl";

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It is made.
    Create,
    /// Some of its fields get other values.
    Change,
    /// It is as it should be.
    Unchanged,
    /// It is somebody else's, and stays as it is.
    Keep,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) object: DynamicObject,
    pub(super) action: Action,
    pub(super) changes: Vec<Change>,
}

/// What applying these would do, in their order.
///
/// # Errors
/// When anything of it would be refused; of conflicts, all are named.
pub(super) async fn plan(
    cluster: &Cluster,
    objects: Vec<DynamicObject>,
    force: bool,
) -> Result<Vec<Step>, InstallError> {
    let mut steps: Vec<Step> = Vec::new();
    let mut conflicts = Vec::new();
    for object in objects {
        let id = Id::of(&object);
        let live = cluster.api(&object).get_opt(&id.name).await;
        let live = live.map_err(|e| cluster.fault(format!("get {id}"), e))?;
        let is_new =
            |step: &Step| kind(&step.object) == "Namespace" && step.action == Action::Create;
        let outcome = match live {
            Some(live) if kind(&object) == "CustomResourceDefinition" && !is_ours(&live) => {
                (Action::Keep, Vec::new())
            }
            // In a namespace that is not there nothing can be tried.
            None if object.metadata.namespace.is_some() && steps.iter().any(is_new) => {
                (Action::Create, Vec::new())
            }
            live => match patch(cluster, &object, &parameters(force).dry_run()).await {
                Ok(after) => compared(live.as_ref(), &after)?,
                Err(Error::Api(status)) if owners(&status).next().is_some() => {
                    conflicts.extend(owners(&status).map(|(field, owner)| Conflict {
                        object: id.clone(),
                        field,
                        owner,
                    }));
                    continue;
                }
                Err(e) => return Err(cluster.fault(format!("apply {id}"), e)),
            },
        };
        let (action, changes) = outcome;
        steps.push(Step {
            object,
            action,
            changes,
        });
    }
    if conflicts.is_empty() {
        Ok(steps)
    } else {
        Err(InstallError::Conflicts(conflicts))
    }
}

/// Makes the object what the step says. Fields that are as they should be are owned from now on, too.
pub(super) async fn apply(cluster: &Cluster, step: &Step, force: bool) -> Result<(), InstallError> {
    let id = Id::of(&step.object);
    match patch(cluster, &step.object, &parameters(force)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if owners(&status).next().is_some() => {
            let conflict = |(field, owner)| Conflict {
                object: id.clone(),
                field,
                owner,
            };
            Err(InstallError::Conflicts(
                owners(&status).map(conflict).collect(),
            ))
        }
        Err(e) => Err(cluster.fault(format!("apply {id}"), e)),
    }
}

fn parameters(force: bool) -> PatchParams {
    let parameters = PatchParams::apply(MANAGER);
    if force {
        parameters.force()
    } else {
        parameters
    }
}

async fn patch(
    cluster: &Cluster,
    object: &DynamicObject,
    parameters: &PatchParams,
) -> Result<DynamicObject, Error> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    cluster
        .api(object)
        .patch(name, parameters, &Patch::Apply(object))
        .await
}

fn compared(
    before: Option<&DynamicObject>,
    after: &DynamicObject,
) -> Result<(Action, Vec<Change>), InstallError> {
    let Some(before) = before else {
        return Ok((Action::Create, Vec::new()));
    };
    let value = |object: &DynamicObject| {
        serde_json::to_value(object).map_err(|e| InstallError::Manifest(e.to_string()))
    };
    let changes = diff::changes(&value(before)?, &value(after)?);
    let action = if changes.is_empty() {
        Action::Unchanged
    } else {
        Action::Change
    };
    Ok((action, changes))
}

/// Of a conflict: each field, and who manages it.
fn owners(status: &Status) -> impl Iterator<Item = (String, String)> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    conflicts.map(|cause| {
        // `conflict with "kubectl-edit" using apps/v1`
        let owner = cause.message.split('"').nth(1).unwrap_or(&cause.message);
        (cause.field.clone(), owner.to_owned())
    })
}
