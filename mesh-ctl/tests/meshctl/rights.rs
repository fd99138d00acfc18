//! What who may not is told, and what whoever has the shipped role may.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, NAMESPACE, meshctl, running};
use crate::{agent, kubelet};

const ROLE: &str = include_str!("../../../manifests/meshctl.yaml");
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["workloads"],
    &["services"],
    &["policies"],
    &["certificates"],
    &["connections"],
    &["log"],
    &["log", "debug"],
    &["config-dump"],
];

async fn grant(cluster: &Cluster, role: &Role, account: &str) {
    let name = role.metadata.name.clone().unwrap();
    let roles: Api<Role> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    roles.create(&PostParams::default(), role).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": account}],
    }))
    .unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_and_the_shipped_role_is_enough() {
    let cluster = Cluster::start().await;
    cluster
        .node("n1", kubelet::start(agent::start("n1").await).await)
        .await;
    cluster.agent("weft-node-a", "n1", &running()).await;
    let kubeconfig = cluster.account("guest").await;
    for command in COMMANDS {
        let output = meshctl(&kubeconfig, command).await;
        assert_eq!(
            output.stderr,
            "error: no permission to list pods in namespace weft-system (pods is forbidden: User \
             \"system:serviceaccount:weft-system:guest\" cannot list resource \"pods\" in API group \"\" in the \
             namespace \"weft-system\"); needed is a Role there with the rule {apiGroups: [\"\"], resources: \
             [pods], verbs: [list]}\n",
            "{command:?}"
        );
        assert_eq!((output.code, &*output.stdout), (Some(1), ""), "{command:?}");
    }
    // What needs no mesh is shown.
    let output = meshctl(&kubeconfig, &["version"]).await;
    assert_eq!(output.code, Some(3));
    assert!(
        output
            .stdout
            .starts_with("COMPONENT  NAME  VERSION\nmeshctl"),
        "{}",
        output.stdout
    );

    let mut role: Role = serde_norway::from_str(ROLE).unwrap();
    let complete = role.clone();
    role.metadata.name = Some("only-list".into());
    let rules = role.rules.as_mut().unwrap();
    rules.retain(|rule| rule.resources == Some(vec!["pods".into()]));
    grant(&cluster, &role, "guest").await;
    let refused = loop {
        // The API server takes up a role after a moment.
        let output = meshctl(&kubeconfig, &["log"]).await;
        if !output.stderr.contains("no permission to list") {
            break output;
        }
    };
    assert_eq!(
        refused.stderr,
        "error: agent n1 (pod weft-system/weft-node-a): no permission to port-forward to pods in namespace \
         weft-system (pods \"weft-node-a\" is forbidden: User \"system:serviceaccount:weft-system:guest\" cannot \
         get resource \"pods/portforward\" in API group \"\" in the namespace \"weft-system\"); needed is a Role \
         there with the rule {apiGroups: [\"\"], resources: [pods/portforward], verbs: [get, create]}\n"
    );
    assert_eq!(refused.code, Some(1));

    let kubeconfig = cluster.account("operator").await;
    grant(&cluster, &complete, "operator").await;
    let allowed = loop {
        let output = meshctl(&kubeconfig, &["log"]).await;
        if !output.stderr.contains("no permission") {
            break output;
        }
    };
    assert_eq!((allowed.code, &*allowed.stderr), (Some(0), ""));
    for command in COMMANDS {
        let output = meshctl(&kubeconfig, command).await;
        assert_eq!(output.code, Some(0), "{command:?}: {}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_accepted_and_a_server_that_is_gone_are_named() {
    let mut cluster = Cluster::start().await;
    let server = format!("https://{}", cluster.control_plane.address());
    let output = meshctl(&cluster.kubeconfig("forger", "forged"), &["status"]).await;
    assert_eq!(
        output.stderr,
        format!(
            "error: the API server {server} does not accept these credentials: Unauthorized; renew them, or \
             choose another --context\n"
        )
    );
    assert_eq!(output.code, Some(1));
    cluster.control_plane.kill_apiserver().unwrap();
    let output = cluster.meshctl(&["status"]).await;
    let expected =
        format!("error: cannot list pods with the API server {server}: Connection refused");
    assert!(output.stderr.starts_with(&expected), "{}", output.stderr);
    assert_eq!(output.code, Some(1));
}
