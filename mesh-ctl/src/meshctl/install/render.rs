//! The manifests with the values in them: field by field, as objects of their types.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, Subject};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::DynamicObject;

use super::error::InstallError;
use super::manifests;
use super::object::{edit, kind};
use super::values::{Values, word};

/// What is installed in `namespace`; what others depend on comes first.
///
/// # Errors
/// When the manifests have no place for a value.
pub fn render(values: &Values, namespace: &str) -> Result<Vec<DynamicObject>, InstallError> {
    let mut objects = manifests::all(values.pod_monitors)?;
    for object in &mut objects {
        if object.metadata.namespace.is_some() {
            object.metadata.namespace = Some(namespace.to_owned());
        }
        match kind(object) {
            "Namespace" => object.metadata.name = Some(namespace.to_owned()),
            "ClusterRoleBinding" => edit(object, |binding: &mut ClusterRoleBinding| {
                bind(&mut binding.subjects, namespace);
                Ok(())
            })?,
            "RoleBinding" => edit(object, |binding: &mut RoleBinding| {
                bind(&mut binding.subjects, namespace);
                Ok(())
            })?,
            "Deployment" => controller(object, values, namespace)?,
            "DaemonSet" => agents(object, values, namespace)?,
            "PodDisruptionBudget" => edit(object, |budget: &mut PodDisruptionBudget| {
                let spec = budget.spec.get_or_insert_default();
                spec.min_available = Some(IntOrString::Int(values.min_available()));
                Ok(())
            })?,
            _ => {}
        }
    }
    Ok(objects)
}

fn bind(subjects: &mut Option<Vec<Subject>>, namespace: &str) {
    for subject in subjects.iter_mut().flatten() {
        subject.namespace = Some(namespace.to_owned());
    }
}

fn controller(
    object: &mut DynamicObject,
    values: &Values,
    namespace: &str,
) -> Result<(), InstallError> {
    let root = values.root_namespace.as_deref().unwrap_or(namespace);
    edit(object, |deployment: &mut Deployment| {
        let spec = &mut deployment.spec;
        spec.replicas = Some(values.controller_replicas);
        let pod = spec.template.spec.get_or_insert_default();
        pull(pod, "mesh-controller", values);
        let arguments = arguments(pod, "mesh-controller")?;
        for (name, value) in [
            ("ca-secret", format!("{namespace}/weft-ca")),
            ("node-account", format!("{namespace}/weft-node")),
            ("server-name", format!("weft-controller.{namespace}.svc")),
            ("root-namespace", root.to_owned()),
            ("trust-domain", values.trust_domain.to_string()),
            ("cluster-id", values.cluster_id.clone()),
        ] {
            set(arguments, name, &value)?;
        }
        Ok(())
    })
}

fn agents(
    object: &mut DynamicObject,
    values: &Values,
    namespace: &str,
) -> Result<(), InstallError> {
    let controller = format!("https://weft-controller.{namespace}.svc:15012");
    edit(object, |agents: &mut DaemonSet| {
        let spec = &mut agents.spec;
        let pod = spec.template.spec.get_or_insert_default();
        pull(pod, "mesh-node", values);
        let arguments = arguments(pod, "mesh-node")?;
        for (name, value) in [
            ("controller", controller),
            ("trust-domain", values.trust_domain.to_string()),
            ("cluster-id", values.cluster_id.clone()),
            ("same-node", word(&values.same_node)),
        ] {
            set(arguments, name, &value)?;
        }
        Ok(())
    })
}

/// Every container has the same image.
fn pull(pod: &mut PodSpec, image: &str, values: &Values) {
    let (repository, tag) = (&values.image_repository, &values.image_tag);
    for container in &mut pod.containers {
        container.image = Some(format!("{repository}/{image}:{tag}"));
        container.image_pull_policy = Some(word(&values.image_pull_policy));
    }
}

fn arguments<'a>(pod: &'a mut PodSpec, name: &str) -> Result<&'a mut Vec<String>, InstallError> {
    let is_it = |container: &&mut Container| container.name == name;
    let container = pod.containers.iter_mut().find(is_it);
    let arguments = container.and_then(|container| container.args.as_mut());
    arguments
        .ok_or_else(|| InstallError::Manifest(format!("the container {name} has no arguments")))
}

/// Gives an argument that is there another value.
fn set(arguments: &mut [String], name: &str, value: &str) -> Result<(), InstallError> {
    let is_it = |argument: &&mut String| {
        let argument = argument.strip_prefix("--");
        argument
            .and_then(|rest| rest.split_once('='))
            .is_some_and(|(key, _)| key == name)
    };
    let found = arguments.iter_mut().find(is_it);
    let found = found.ok_or_else(|| InstallError::Manifest(format!("there is no --{name}")))?;
    *found = format!("--{name}={value}");
    Ok(())
}
