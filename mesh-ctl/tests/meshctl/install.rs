//! `meshctl install` against a real API server. Nothing runs what it applies: where readiness matters, the test
//! writes the status.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, create, meshctl, set_status};
use crate::run::{Output, command, run};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const POLICIES: &str = include_str!("../../../manifests/crds/authorization-policies.yaml");
/// What Kubernetes 1.20 does not know.
const OLD: &str = "\
note: this server has no policy/v1: the PodDisruptionBudget is written as policy/v1beta1
note: Kubernetes 1.20 ends an agent before it starts the next: maxSurge is left out; while agents are updated, new \
connections of the node's pods in the mesh are refused, never sent in plaintext
";
const INSTALLED: &str = "\
KIND                      NAMESPACE    NAME                                     DONE
Namespace                 -            weft-system                              created
CustomResourceDefinition  -            authorizationpolicies.security.istio.io  created
CustomResourceDefinition  -            peerauthentications.security.istio.io    created
ServiceAccount            weft-system  weft-controller                          created
ClusterRole               -            weft-controller                          created
ClusterRoleBinding        -            weft-controller                          created
Role                      weft-system  weft-controller                          created
RoleBinding               weft-system  weft-controller                          created
Deployment                weft-system  weft-controller                          created
Service                   weft-system  weft-controller                          created
PodDisruptionBudget       weft-system  weft-controller                          created
ServiceAccount            weft-system  weft-node                                created
DaemonSet                 weft-system  weft-node                                created
NetworkPolicy             weft-system  weft-controller                          created
NetworkPolicy             weft-system  weft-node                                created
";
const DIFFERENCE: &str = r#"change Deployment weft-system/weft-controller
  spec.replicas
    - 2
    + 3
  spec.template.spec.containers[mesh-controller].image
    - "localhost/weft/mesh-controller:0.1.0"
    + "localhost/weft/mesh-controller:9"
change DaemonSet weft-system/weft-node
  spec.template.spec.containers[keeper].image
    - "localhost/weft/mesh-node:0.1.0"
    + "localhost/weft/mesh-node:9"
  spec.template.spec.containers[mesh-cni].image
    - "localhost/weft/mesh-node:0.1.0"
    + "localhost/weft/mesh-node:9"
  spec.template.spec.containers[mesh-node].args
    - "--same-node=tunnel"
    + "--same-node=direct"
  spec.template.spec.containers[mesh-node].image
    - "localhost/weft/mesh-node:0.1.0"
    + "localhost/weft/mesh-node:9"
"#;
const CHANGED: [&str; 6] = [
    "--image-tag",
    "9",
    "--same-node",
    "direct",
    "--controller-replicas",
    "3",
];

pub(crate) async fn install(cluster: &Cluster, arguments: &[&str]) -> Output {
    let all = [&["install", "--wait=false"], arguments].concat();
    cluster.meshctl(&all).await
}

fn deployments(cluster: &Cluster) -> Api<Deployment> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

async fn replicas(cluster: &Cluster) -> Option<i32> {
    let found = deployments(cluster).get("weft-controller").await.unwrap();
    found.spec.replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_applied_and_again_nothing_changes_and_what_would_is_shown() {
    let cluster = Cluster::empty().await;
    let nothing_yet = cluster.meshctl(&["install", "--diff"]).await;
    assert_eq!(nothing_yet.code, Some(5), "{}", nothing_yet.stderr);
    assert_eq!(
        nothing_yet.stdout.lines().count(),
        15,
        "{}",
        nothing_yet.stdout
    );
    assert!(
        nothing_yet
            .stdout
            .starts_with("create Namespace weft-system\n")
    );

    let output = install(&cluster, &[]).await;
    assert_eq!(output.stdout, INSTALLED, "{}", output.stderr);
    assert_eq!((output.code, &*output.stderr), (Some(0), OLD));
    let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let before = agents.get("weft-node").await.unwrap();

    let again = install(&cluster, &[]).await;
    assert_eq!(again.stdout, INSTALLED.replace("created", "unchanged"));
    assert_eq!(again.code, Some(0));
    let same = cluster.meshctl(&["install", "--diff"]).await;
    assert_eq!((same.code, &*same.stdout), (Some(0), ""));
    let after = agents.get("weft-node").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);

    let different = cluster
        .meshctl(&[&["install", "--diff"], &CHANGED[..]].concat())
        .await;
    assert_eq!(different.stdout, DIFFERENCE.replace("0.1.0", VERSION));
    assert_eq!(different.code, Some(5));
    assert_eq!(
        replicas(&cluster).await,
        Some(2),
        "showing it changes nothing"
    );
    let json = cluster
        .meshctl(&[&["install", "--diff", "-o", "json"], &CHANGED[..]].concat())
        .await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        json["items"][0],
        json!({
            "kind": "Deployment", "namespace": "weft-system", "name": "weft-controller", "action": "change",
            "changes": [
                {"field": "spec.replicas", "from": 2, "to": 3},
                {
                    "field": "spec.template.spec.containers[mesh-controller].image",
                    "from": format!("localhost/weft/mesh-controller:{VERSION}"), "to": "localhost/weft/mesh-controller:9",
                },
            ],
        })
    );

    let output = install(&cluster, &CHANGED).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let changed = output
        .stdout
        .lines()
        .filter(|line| line.ends_with("  changed"));
    assert_eq!(changed.count(), 2, "{}", output.stdout);
    assert_eq!(replicas(&cluster).await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_somebody_else_is_not_taken_without_being_told() {
    let cluster = Cluster::empty().await;
    install(&cluster, &[]).await;
    let scaled = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let parameters = PatchParams {
        field_manager: Some("autoscaler".into()),
        ..PatchParams::default()
    };
    deployments(&cluster)
        .patch("weft-controller", &parameters, &scaled)
        .await
        .unwrap();

    let refused = install(&cluster, &["--image-tag", "9"]).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "error: others manage what would be changed; nothing was:\n  Deployment weft-system/weft-controller: \
         .spec.replicas is managed by \"autoscaler\"\ngive --force-conflicts to take these over, or change them where \
         their owner does\n"
    );
    assert_eq!(
        cluster.meshctl(&["install", "--diff"]).await.stderr,
        refused.stderr
    );
    let image = deployments(&cluster).get("weft-controller").await.unwrap();
    let image = image.spec.template.spec.unwrap().containers[0]
        .image
        .clone();
    assert_eq!(
        image,
        Some(format!("localhost/weft/mesh-controller:{VERSION}"))
    );

    let forced = install(&cluster, &["--force-conflicts"]).await;
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert_eq!(replicas(&cluster).await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_istio_stay_as_they_are() {
    let cluster = Cluster::empty().await;
    let mut definition: CustomResourceDefinition = serde_norway::from_str(POLICIES).unwrap();
    definition.metadata.labels = Some([("app".to_owned(), "istio-pilot".to_owned())].into());
    let name = definition.metadata.name.clone().unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
    let output = install(&cluster, &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let note = format!(
        "note: CustomResourceDefinition {name} is not Weft's (Istio's, for one): it stays as it is\n"
    );
    assert!(output.stderr.contains(&note), "{}", output.stderr);
    assert!(
        output.stdout.contains(&format!("{name}  kept\n")),
        "{}",
        output.stdout
    );
    let found = definitions.get(&name).await.unwrap();
    assert_eq!(found.metadata.labels, definition.metadata.labels);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_installation_left_is_named() {
    let cluster = Cluster::empty().await;
    install(&cluster, &[]).await;
    let object: k8s_openapi::api::core::v1::Service = serde_json::from_value(json!({
        "metadata": {"name": "weft-old", "labels": {"app.kubernetes.io/part-of": "weft"}},
        "spec": {"ports": [{"port": 1, "protocol": "TCP"}]},
    }))
    .unwrap();
    let services = Api::namespaced(cluster.client.clone(), NAMESPACE);
    services
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let output = install(&cluster, &[]).await;
    let note = "note: Service weft-system/weft-old is of an earlier installation: `kubectl -n weft-system delete \
                service weft-old` removes it\n";
    assert!(output.stderr.ends_with(note), "{}", output.stderr);
}

/// Writes the status that a cluster would, in which every pod is ready.
async fn roll_out(cluster: &Cluster) {
    let deployment = deployments(cluster).get("weft-controller").await.unwrap();
    let status = json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
    });
    set_status(deployments(cluster), "weft-controller", &status).await;
    let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let found = agents.get("weft-node").await.unwrap();
    let status = json!({
        "observedGeneration": found.metadata.generation, "currentNumberScheduled": 2, "numberMisscheduled": 0,
        "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2, "numberAvailable": 2,
    });
    set_status(agents, "weft-node", &status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_until_controllers_and_agents_are_ready() {
    let cluster = Cluster::empty().await;
    install(&cluster, &[]).await;
    let kubeconfig = cluster.control_plane.kubeconfig();
    let mut waiting = command(&["--kubeconfig", &kubeconfig.to_string_lossy(), "install"]);
    let mut child = waiting
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = String::new();
        // It has looked at both, and would wait for minutes.
        while !seen.contains("waiting: DaemonSet") {
            assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "{seen}");
        }
        (stderr, seen)
    });
    let (mut stderr, mut seen) = seen.await.unwrap();
    roll_out(&cluster).await;
    let ended = tokio::task::spawn_blocking(move || {
        stderr.read_to_string(&mut seen).unwrap();
        (child.wait().unwrap(), seen)
    });
    let (status, seen) = ended.await.unwrap();
    assert!(status.success(), "{seen}");
    let progress = seen.strip_prefix(OLD).unwrap();
    assert_eq!(
        progress,
        "waiting: Deployment weft-system/weft-controller: 0 of 2 available\n\
         waiting: DaemonSet weft-system/weft-node: not taken up by the cluster yet\n\
         ready: Deployment weft-system/weft-controller: 2 of 2 available\n\
         ready: DaemonSet weft-system/weft-node: available on 2 of 2 nodes\n"
    );
}

/// A pod of the installation.
async fn pod(cluster: &Cluster, name: &str, app: &str, status: &Value) {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let object = json!({
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "weft",
        }},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "weft"}]},
    });
    create(pods.clone(), &object).await;
    set_status(pods, name, status).await;
}

fn waiting(name: &str, state: &Value) -> Value {
    json!({
        "phase": "Pending",
        "containerStatuses": [{
            "name": name, "image": "weft", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_become_ready_is_named_with_the_reason() {
    let cluster = Cluster::empty().await;
    install(&cluster, &[]).await;
    let image = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}});
    pod(
        &cluster,
        "weft-controller-a",
        "weft-controller",
        &waiting("mesh-controller", &image),
    )
    .await;
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    pod(&cluster, "weft-controller-b", "weft-controller", &ready).await;
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    pod(
        &cluster,
        "weft-node-a",
        "weft-node",
        &waiting("mesh-node", &creating),
    )
    .await;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for (name, time, message) in [
        ("first", "2026-01-01T00:00:00Z", "an older message"),
        (
            "second",
            "2026-01-01T00:01:00Z",
            "configmap \"istio-ca-root-cert\" not found",
        ),
    ] {
        let event = json!({
            "metadata": {"name": name}, "type": "Warning", "reason": "FailedMount", "message": message,
            "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "weft-node-a"},
            "lastTimestamp": time,
        });
        create(events.clone(), &event).await;
    }
    let output = cluster.meshctl(&["install", "--timeout", "1s"]).await;
    assert_eq!(output.code, Some(1));
    let error = &output.stderr[output.stderr.find("error:").unwrap()..];
    assert_eq!(
        error,
        "error: not ready after 1s:\n  \
         Deployment weft-system/weft-controller: 0 of 2 available\n    \
         pod weft-controller-a on n1: container mesh-controller: ErrImagePull: no such image\n  \
         DaemonSet weft-system/weft-node: not taken up by the cluster yet\n    \
         pod weft-node-a on n1: container mesh-node: ContainerCreating; FailedMount: configmap \
         \"istio-ca-root-cert\" not found\n\
         what was applied stays, and `meshctl install` may be repeated; `kubectl -n weft-system describe pod NAME` \
         tells more\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_who_reaches_nothing_is_told() {
    let mut cluster = Cluster::start().await;
    let kubeconfig = cluster.account("guest").await;
    let refused = meshctl(&kubeconfig, &["install"]).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "error: no permission to get Namespace weft-system (namespaces \"weft-system\" is forbidden: User \
         \"system:serviceaccount:weft-system:guest\" cannot get resource \"namespaces\" in API group \"\" in the \
         namespace \"weft-system\"); installing and uninstalling take the rights of a cluster administrator: choose \
         another --context, or have the ClusterRole cluster-admin bound to you\n"
    );
    let monitors = cluster.meshctl(&["install", "--pod-monitors"]).await;
    assert_eq!(monitors.code, Some(1));
    assert!(
        monitors
            .stderr
            .starts_with("error: --pod-monitors: this cluster has no PodMonitor"),
        "{}",
        monitors.stderr
    );
    let server = format!("https://{}", cluster.control_plane.address());
    cluster.control_plane.kill_apiserver().unwrap();
    for command in ["install", "uninstall"] {
        let output = cluster.meshctl(&[command]).await;
        assert_eq!(output.code, Some(1));
        assert_eq!(
            output.stderr,
            format!(
                "error: cannot ask for the server's version with the API server {server}: Connection refused; check \
                 that it runs, and --context\n"
            )
        );
    }
}

#[tokio::test]
async fn rendering_needs_no_cluster() {
    let output = run(command(&[
        "install",
        "--render",
        "--image-repository",
        "r.example.org/w",
    ]))
    .await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    let documents: Vec<_> = output.stdout.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), 15);
    assert!(output.stdout.contains("image: r.example.org/w/mesh-node:"));
    let output = run(command(&["install", "--render", "-o", "json"])).await;
    let list: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&json!("List"), 15)
    );
    for wrong in [
        &["--render", "--diff"][..],
        &["--diff", "--timeout", "1s"],
        &["--trust-domain", "Example.org"],
        &["--image-repository", "r.example.org/weft:1"],
        &["--controller-replicas", "0"],
        &["--same-node", "fast"],
        &["--mesh-namespace", "Weft"],
        &["--node-url", "http://127.0.0.1:1"],
    ] {
        let output = run(command(&[&["install"], wrong].concat())).await;
        assert_eq!(
            (output.code, &*output.stdout),
            (Some(2), ""),
            "{wrong:?}: {}",
            output.stderr
        );
    }
}
