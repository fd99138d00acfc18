//! Agents that are reached through the API server and a kubelet, and those that are not.

use serde_json::{Value, json};

use crate::cluster::{Cluster, running};
use crate::{agent, kubelet};

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_found_and_asked_and_who_does_not_answer_is_named() {
    let cluster = Cluster::start().await;
    let well = kubelet::start(agent::start("n1").await).await;
    // The kubelet of the second node reaches no agent, the third node has no kubelet.
    let nobody = {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unused.local_addr().unwrap()
    };
    cluster.node("n1", well).await;
    cluster.agent("weft-node-a", "n1", &running()).await;
    for command in [
        &["status"][..],
        &["connections"],
        &["log"],
        &["log", "debug"],
        &["config-dump"],
    ] {
        let output = cluster.meshctl(command).await;
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{command:?}");
    }
    let dump = cluster.meshctl(&["config-dump"]).await.stdout;
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(dump["items"][0]["node"], "n1");
    assert_eq!(
        dump["items"][0]["filler"].as_str().map(str::len),
        Some(3 << 20)
    );

    cluster.node("n2", kubelet::start(nobody).await).await;
    cluster.node("n3", nobody.port()).await;
    cluster.agent("weft-node-b", "n2", &running()).await;
    cluster.agent("weft-node-c", "n3", &running()).await;
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff"}});
    let pending = json!({
        "phase": "Pending",
        "containerStatuses": [{
            "name": "agent", "image": "weft", "imageID": "", "ready": false, "restartCount": 0, "state": waiting,
        }],
    });
    cluster.agent("weft-node-d", "n4", &pending).await;
    cluster.agent("weft-node-e", "n5", &running()).await;
    cluster
        .agent("weft-node-old", "n1", &json!({"phase": "Failed"}))
        .await;
    let output = cluster.meshctl(&["log"]).await;
    assert_eq!(output.stdout, "NODE  LEVEL\nn1    info\n");
    assert_eq!(output.code, Some(3));
    let lines: Vec<_> = output.stderr.lines().collect();
    for (line, expected) in [
        (
            0,
            "warning: agent n2 (pod weft-system/weft-node-b): the API server cannot forward to the pod: error \
             forwarding port 15000 to pod: Connection refused",
        ),
        (
            1,
            "warning: agent n3 (pod weft-system/weft-node-c): the API server cannot forward to the pod: error \
             dialing backend: dial tcp 127.0.0.1:",
        ),
        (
            2,
            "warning: agent n4 (pod weft-system/weft-node-d): the pod is Pending (ImagePullBackOff); see `kubectl \
             describe pod weft-node-d",
        ),
        (
            3,
            "warning: agent n5 (pod weft-system/weft-node-e): the API server cannot forward to the pod: ",
        ),
    ] {
        let found = lines.get(line).copied().unwrap_or_default();
        assert!(found.starts_with(expected), "{}", output.stderr);
    }
    assert_eq!(lines.len(), 4, "{}", output.stderr);
    assert!(lines[3].ends_with("\"n5\" not found"), "{}", lines[3]);

    // Who asks for one that is well misses nothing, and nobody else is asked.
    let output = cluster.meshctl(&["log", "--node", "n1"]).await;
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    let output = cluster.meshctl(&["log", "--node", "n2"]).await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.starts_with("error: agent n2 (pod"),
        "{}",
        output.stderr
    );
    let output = cluster.meshctl(&["log", "--node", "n9"]).await;
    let expected = "error: there is no agent on a node \"n9\"; did you mean \"n1\"?\n";
    assert_eq!((output.code, &*output.stderr), (Some(4), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_agents_is_no_empty_mesh() {
    let cluster = Cluster::start().await;
    let output = cluster.meshctl(&["workloads"]).await;
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.stderr,
        "error: there are no pods with the label app.kubernetes.io/name=weft-node in namespace weft-system; \
         check --mesh-namespace and --context\n"
    );
}
