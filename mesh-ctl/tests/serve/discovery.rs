//! Discovery: first state, changes, reconnects, removals, and bad configuration.

use std::collections::HashMap;

use mesh_common::proto::workload::{Address, address};
use mesh_common::proto::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};
use mesh_ctl::resources::Kind;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::fixture::{CLUSTER, DEADLINE, Fixture, eventually, with_token};

pub(crate) struct Node {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
    /// Name to version, by kind.
    pub(crate) held: HashMap<Kind, HashMap<String, String>>,
}

impl Node {
    async fn connect(fixture: &Fixture, token: &str) -> Result<Self, tonic::Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(fixture.channel().await);
        let (requests, stream) = mpsc::channel(16);
        let request = with_token(ReceiverStream::new(stream), token);
        let responses = client
            .delta_aggregated_resources(request)
            .await?
            .into_inner();
        Ok(Self {
            requests,
            responses,
            held: HashMap::new(),
        })
    }

    pub(crate) async fn subscribed(
        fixture: &Fixture,
        held: HashMap<Kind, HashMap<String, String>>,
    ) -> Self {
        let mut node = Self::connect(fixture, &fixture.token("n1")).await.unwrap();
        for kind in [Kind::Address, Kind::Authorization] {
            let initial_resource_versions = held.get(&kind).cloned().unwrap_or_default();
            let request = DeltaDiscoveryRequest {
                type_url: kind.type_url().into(),
                initial_resource_versions,
                ..Default::default()
            };
            node.requests.send(request).await.unwrap();
        }
        node.held = held;
        node
    }

    /// The next response, acknowledged, as text.
    pub(crate) async fn next(&mut self) -> String {
        let (text, ack) = self.receive().await;
        self.requests.send(ack).await.unwrap();
        text
    }

    pub(crate) async fn receive(&mut self) -> (String, DeltaDiscoveryRequest) {
        let next = tokio::time::timeout(DEADLINE, self.responses.message()).await;
        let mut response = next
            .expect("a response in time")
            .unwrap()
            .expect("an open stream");
        // Resources have no order of their own.
        response.resources.sort_by(|a, b| a.name.cmp(&b.name));
        let kind = Kind::from_type_url(&response.type_url).unwrap();
        let held = self.held.entry(kind).or_default();
        let mut text = format!("{}:", kind.label());
        for resource in &response.resources {
            text += &format!(" +{}", short(&resource.name));
            held.insert(resource.name.clone(), resource.version.clone());
        }
        for name in &response.removed_resources {
            text += &format!(" -{}", short(name));
            held.remove(name);
        }
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Default::default()
        };
        (text, ack)
    }
}

fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

pub(crate) const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: extra, namespace: shop}
spec: {nodeName: n1, serviceAccountName: extra}
status: {podIP: 10.0.0.3}
";

#[tokio::test]
async fn the_whole_state_then_only_changes() {
    let fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    assert_eq!(node.next().await, "authorization: +deny-all");
    assert_eq!(node.next().await, "address: +db +web");
    fixture.write("extra.yaml", POD);
    assert_eq!(node.next().await, "address: +extra");
    fixture.write("extra.yaml", &POD.replace("10.0.0.3", "10.0.0.4"));
    assert_eq!(node.next().await, "address: +extra");
    std::fs::remove_file(fixture.path("config/extra.yaml")).unwrap();
    assert_eq!(node.next().await, "address: -extra");

    let stricter = CLUSTER.replace("deny-all", "other")
        + "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
";
    fixture.write("cluster.yaml", &stricter);
    assert_eq!(
        node.next().await,
        "authorization: +istio_converted_static_strict +other"
    );
    assert_eq!(node.next().await, "address: +db +web");
    assert_eq!(node.next().await, "authorization: -deny-all");
    assert_eq!(fixture.metric("weft_controller_connected_nodes").await, 1.0);
    drop(node);
    eventually("the node is gone", || async {
        fixture.metric("weft_controller_connected_nodes").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_restarted_controller_sends_only_what_the_node_lacks() {
    let mut fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    node.next().await;
    let held = std::mem::take(&mut node.held);
    fixture.restart().await;
    let end = tokio::time::timeout(DEADLINE, node.responses.message())
        .await
        .unwrap();
    assert!(!matches!(end, Ok(Some(_))), "the old stream ended");

    let mut node = Node::subscribed(&fixture, held).await;
    assert_eq!(node.next().await, "authorization:");
    assert_eq!(node.next().await, "address:");
    let held = std::mem::take(&mut node.held);
    drop(node);
    let changed = CLUSTER
        .replace("10.0.0.1", "10.0.0.9")
        .replace("name: db, ", "name: db2, ");
    fixture.write("cluster.yaml", &changed.replace("deny-all", "other"));
    eventually("the change is read", || async {
        fixture.get("/debug/resources").await.contains("shop/db2")
    })
    .await;
    let mut node = Node::subscribed(&fixture, held).await;
    assert_eq!(node.next().await, "authorization: +other");
    assert_eq!(node.next().await, "address: +db2 +web -db");
    assert_eq!(node.next().await, "authorization: -deny-all");
}

#[tokio::test]
async fn bad_configuration_leaves_the_last_good_state() {
    let fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    node.next().await;
    let invalid = "weft_controller_directory_reads_total{outcome=\"invalid\"}";
    let bad = [
        "kind: [".to_owned(),
        POD.replace("extra", "web"),
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {rule: []}".into(),
    ];
    for (i, content) in bad.iter().enumerate() {
        // A good change beside the bad one waits for it.
        fixture.write(
            "good.yaml",
            &POD.replace("10.0.0.3", &format!("10.0.1.{i}")),
        );
        fixture.write("bad.yaml", content);
        let before = fixture.metric(invalid).await;
        eventually("the bad file is seen", || async {
            fixture.metric(invalid).await > before || fixture.metric(invalid).await > i as f64
        })
        .await;
    }
    assert!(fixture.get("/healthz/ready").await.contains("200 OK"));
    std::fs::remove_file(fixture.path("config/bad.yaml")).unwrap();
    loop {
        let text = node.next().await;
        // The good file may have been read alone, before the first bad one was written.
        assert_eq!(text, "address: +extra");
        if fixture.get("/debug/resources").await.contains("10.0.1.2") {
            break;
        }
    }
}

#[tokio::test]
async fn addresses_are_looked_up_on_demand() {
    let fixture = Fixture::start().await;
    let mut node = Node::connect(&fixture, &fixture.token("n1")).await.unwrap();
    let request = DeltaDiscoveryRequest {
        type_url: Kind::Address.type_url().into(),
        resource_names_subscribe: vec!["/10.0.0.2".into(), "/10.9.9.9".into()],
        ..Default::default()
    };
    node.requests.send(request).await.unwrap();
    let response = tokio::time::timeout(DEADLINE, node.responses.message())
        .await
        .unwrap();
    let response = response.unwrap().unwrap();
    assert_eq!(response.removed_resources, ["/10.9.9.9"]);
    let body = &response.resources[0].resource.as_ref().unwrap().value;
    let Some(address::Type::Workload(db)) = Address::decode(&**body).unwrap().r#type else {
        panic!("not a workload");
    };
    assert_eq!((db.name.as_str(), response.resources.len()), ("db", 1));
}

#[tokio::test]
async fn a_refused_resource_is_counted_and_the_stream_goes_on() {
    let fixture = Fixture::start().await;
    let mut node = Node::subscribed(&fixture, HashMap::new()).await;
    node.next().await;
    let (_, mut refusal) = node.receive().await;
    refusal.error_detail = Some(Status {
        code: 3,
        message: "web: bad".into(),
        details: vec![],
    });
    node.requests.send(refusal).await.unwrap();
    fixture.write("extra.yaml", POD);
    assert_eq!(node.next().await, "address: +extra");
    assert_eq!(
        fixture
            .metric("weft_controller_nacks_total{type=\"address\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn only_trusted_nodes_are_told_anything() {
    let fixture = Fixture::start().await;
    let Err(status) = Node::connect(&fixture, "nonsense").await else {
        panic!("was let in")
    };
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut claims = Fixture::claims("n1");
    claims["kubernetes.io"]["serviceaccount"]["name"] = "somebody".into();
    let Err(status) = Node::connect(&fixture, &fixture.sign(&claims)).await else {
        panic!("was let in")
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("weft-system/somebody on n1"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let fixture = Fixture::start().await;
    let mut claims = Fixture::claims("n1");
    claims["exp"] = crate::fixture::in_seconds(2).into();
    let mut node = Node::connect(&fixture, &fixture.sign(&claims))
        .await
        .unwrap();
    let end = tokio::time::timeout(DEADLINE, node.responses.message()).await;
    let status = end.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("token has expired"), "{status}");
    let ended = "weft_controller_dropped_streams_total{outcome=\"token_expired\"}";
    assert_eq!(fixture.metric(ended).await, 1.0);
    // A fresh one is let in again.
    Node::connect(&fixture, &fixture.token("n1")).await.unwrap();
}
