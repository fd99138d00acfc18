//! Who the agent says it is on the discovery stream.
//!
//! Namespace and pod name are those in the token's claims, because that is what the controller compares
//! them with; the token is not checked here. The address is the one that leads to the controller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_common::proto::xds::Node;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::Value as Json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::controller::Controller;

const DEFAULT_NAMESPACE: &str = "weft-system";

/// Describes this agent.
pub(super) async fn describe(controller: &Controller, token: &str) -> Node {
    let options = controller.options();
    let claims = claims(token).unwrap_or_default();
    let kubernetes = &claims["kubernetes.io"];
    let namespace = kubernetes["namespace"]
        .as_str()
        .unwrap_or(DEFAULT_NAMESPACE);
    let pod = kubernetes["pod"]["name"]
        .as_str()
        .unwrap_or(&options.node_name);
    let ip = local_address(controller)
        .await
        .unwrap_or(Ipv4Addr::LOCALHOST.into());
    node(ip, pod, namespace, &options.node_name, &options.cluster_id)
}

fn node(ip: IpAddr, pod: &str, namespace: &str, node_name: &str, cluster_id: &str) -> Node {
    let text = |s: &str| Value {
        kind: Some(Kind::StringValue(s.to_owned())),
    };
    let fields = [
        ("NAME", text(pod)),
        ("NAMESPACE", text(namespace)),
        ("INSTANCE_IPS", text(&ip.to_string())),
        ("NODE_NAME", text(node_name)),
        ("CLUSTER_ID", text(cluster_id)),
    ];
    Node {
        id: format!("ztunnel~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        cluster: cluster_id.to_owned(),
        metadata: Some(Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }),
        build_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn claims(token: &str) -> Option<Json> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The address this host uses towards the controller. Connecting a UDP socket sends nothing.
async fn local_address(controller: &Controller) -> Option<IpAddr> {
    let uri = controller.uri();
    let host = uri.host()?.trim_matches(['[', ']']);
    let remote = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(443)))
        .await
        .ok()?
        .next()?;
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await.ok()?;
    socket.connect(remote).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_metadata_are_as_peers_expect_them() {
        let node = node(
            "10.0.0.1".parse().unwrap(),
            "weft-x",
            "mesh",
            "node-1",
            "c1",
        );
        assert_eq!(
            node.id,
            "ztunnel~10.0.0.1~weft-x.mesh~mesh.svc.cluster.local"
        );
        let fields = node.metadata.unwrap().fields;
        let text = |key: &str| match &fields[key].kind {
            Some(Kind::StringValue(text)) => text.clone(),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(text("NAME"), "weft-x");
        assert_eq!(text("NAMESPACE"), "mesh");
        assert_eq!(text("INSTANCE_IPS"), "10.0.0.1");
        assert_eq!(text("NODE_NAME"), "node-1");
        assert_eq!(text("CLUSTER_ID"), "c1");
    }

    #[test]
    fn claims_are_read_or_left_out() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"kubernetes.io":{"namespace":"mesh"}}"#);
        let read = claims(&format!("head.{payload}.signature")).unwrap();
        assert_eq!(read["kubernetes.io"]["namespace"], "mesh");
        for bad in ["", "a.b", "a.!.c", "opaque"] {
            assert!(claims(bad).is_none(), "{bad}");
        }
    }
}
