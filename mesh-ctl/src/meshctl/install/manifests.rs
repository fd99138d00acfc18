//! The manifests, as the folder `manifests` has them.

use kube::api::DynamicObject;
use serde::Deserialize as _;

use super::error::InstallError;

macro_rules! manifest {
    ($path:literal) => {
        (
            $path,
            include_str!(concat!("../../../../manifests/", $path)),
        )
    };
}

/// What `kustomize/overlays/default` renders.
const DEFAULT: &[(&str, &str)] = &[
    manifest!("kustomize/base/namespace.yaml"),
    manifest!("crds/authorization-policies.yaml"),
    manifest!("crds/peer-authentications.yaml"),
    manifest!("kustomize/base/controller-rbac.yaml"),
    manifest!("kustomize/base/controller.yaml"),
    manifest!("kustomize/base/node.yaml"),
    manifest!("kustomize/base/network-policy.yaml"),
];

const POD_MONITORS: (&str, &str) =
    manifest!("kustomize/overlays/prometheus-operator/monitors.yaml");

const UNINSTALL: (&str, &str) = manifest!("uninstall-node.yaml");

/// All of Weft as it is shipped; the namespace and the definitions of policies come first.
pub(super) fn all(pod_monitors: bool) -> Result<Vec<DynamicObject>, InstallError> {
    let mut objects = Vec::new();
    for file in DEFAULT {
        objects.extend(parse(*file)?);
    }
    if pod_monitors {
        objects.extend(parse(POD_MONITORS)?);
    }
    Ok(objects)
}

/// The pod that cleans a node.
pub(super) fn uninstall_pod() -> Result<DynamicObject, InstallError> {
    let none = || InstallError::Manifest(format!("{} has no object", UNINSTALL.0));
    parse(UNINSTALL)?.pop().ok_or_else(none)
}

fn parse((path, text): (&str, &str)) -> Result<Vec<DynamicObject>, InstallError> {
    let unusable = |reason: String| InstallError::Manifest(format!("{path}: {reason}"));
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value =
            serde_json::Value::deserialize(document).map_err(|e| unusable(e.to_string()))?;
        objects.push(serde_json::from_value(value).map_err(|e| unusable(e.to_string()))?);
    }
    Ok(objects)
}
