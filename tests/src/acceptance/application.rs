//! The application: three services that know each other by their Services, spread over the nodes.

use super::policy::OUTSIDE;
use super::{Outcome, Stage};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Where it runs.
pub(super) const NAMESPACE: &str = "weft-test-shop";
/// Its services, from the one that is asked first to the one that is asked last.
pub(super) const SERVICES: [&str; 3] = ["web", "catalog", "stock"];
pub(super) const PORT: u16 = 8080;
pub(super) const IMAGE: &str = "localhost/weft-test/app:1";

pub(super) fn deploy(stage: &Stage) -> Result<Outcome> {
    // A run that was cut short leaves them, and with them labels and policies.
    let leftovers = ["namespace", NAMESPACE, OUTSIDE];
    let delete = ["delete", "--ignore-not-found", "--wait", "--timeout=300s"];
    stage.kubectl.run(&[&delete[..], &leftovers].concat())?;
    let nodes = stage.kubectl.get(&["nodes"])?;
    let nodes: Vec<&str> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["metadata"]["name"].as_str())
        .collect();
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    })];
    for (number, name) in SERVICES.iter().enumerate() {
        // One after the other on the nodes, so that each asks another node's.
        let node = nodes.get(number % nodes.len().max(1)).context("no nodes")?;
        objects.extend(service(name, node));
    }
    stage.kubectl.apply(&objects)?;
    for name in SERVICES {
        let workload = format!("deployment/{name}");
        let status = [
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            &workload,
            "--timeout=180s",
        ];
        stage.kubectl.run(&status)?;
    }
    Ok(Outcome::Holds(format!(
        "{} on {}",
        SERVICES.join(", "),
        nodes.join(", ")
    )))
}

/// What the service answers.
pub(super) fn answer(name: &str) -> String {
    format!("weft-test-answer-of-{name}")
}

fn service(name: &str, node: &str) -> [Value; 3] {
    let labels = json!({"app": name});
    let serve = format!(
        "mkdir -p /www && echo {} > /www/index.html && exec httpd -f -p {PORT} -h /www",
        answer(name)
    );
    let started = format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 127.0.0.1 {PORT} | grep -q {}",
        answer(name)
    );
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": name,
                        "nodeSelector": {"kubernetes.io/hostname": node},
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "app",
                            "image": IMAGE,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/bin/busybox", "sh", "-c", serve],
                            "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                            "startupProbe": {
                                "exec": {"command": ["/bin/busybox", "sh", "-c", started]},
                                "periodSeconds": 1,
                            },
                            "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 5},
                        }],
                    },
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 80, "protocol": "TCP", "targetPort": PORT}]},
        }),
    ]
}

/// Asks a service, by its address, from a pod of another; the answer.
pub(super) fn ask(stage: &Stage, from: &str, to: &str) -> Result<String> {
    ask_from(stage, NAMESPACE, &format!("deployment/{from}"), to)
}

/// Asks a service from any pod; an error unless it answers.
pub(super) fn ask_from(stage: &Stage, namespace: &str, pod: &str, to: &str) -> Result<String> {
    let service = stage.kubectl.get(&["-n", NAMESPACE, "service", to])?;
    let address = service["spec"]["clusterIP"].as_str();
    let address = address.context("it has no address")?;
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80");
    let shell = ["/bin/busybox", "sh", "-c", &request];
    let output = stage.kubectl.exec(namespace, pod, &shell)?;
    anyhow::ensure!(
        output.success() && output.stdout.contains(&answer(to)),
        "{pod} asked {to} ({address}) and got {:?}, {}",
        output.stdout,
        output.summary()
    );
    Ok(output.stdout)
}

/// A pod that does nothing until it is told to.
pub(super) fn client(name: &str, namespace: &str, label: Option<(&str, &str)>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"client": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/busybox", "sleep", "2147483647"],
            }],
        },
    });
    if let Some((key, value)) = label {
        pod["metadata"]["labels"][key] = json!(value);
    }
    pod
}
