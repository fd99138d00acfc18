//! A simulated node: one task with one connection, which takes everything and acknowledges it.

use super::response::Reader;
use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use mesh_common::proto::xds::{DeltaDiscoveryRequest, Node};
use prost::Message as _;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Type of workloads and services.
pub(super) const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
const METHOD: &str =
    "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// What a gRPC client of the agent's kind grants, bytes.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;

/// A node connects again, as an agent does, when the handshake fails: so often,
const ATTEMPTS: u32 = 10;
/// after this pause.
const RETRY: Duration = Duration::from_secs(1);

type Tls = TlsStream<TcpStream>;

/// A response came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    /// It was about workloads and services.
    pub(super) of_addresses: bool,
    pub(super) bytes: u64,
    pub(super) at: Instant,
}

/// What every node needs.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<ClientConfig>,
}

/// Follows the controller as this node until it is stopped.
pub(super) async fn run(
    net: Net,
    name: String,
    token: String,
    receipts: mpsc::UnboundedSender<Receipt>,
    retries: Arc<AtomicU32>,
) -> Result<()> {
    let mut attempt = 1;
    let (requests, connection) = loop {
        match connect(&net).await {
            Ok(connected) => break connected,
            Err(error) if attempt == ATTEMPTS => {
                return Err(error.context(format!("{name} cannot connect")));
            }
            Err(_) => {
                attempt += 1;
                retries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let connection = async { connection.await.context("the connection broke") };
    let stream = async {
        let request = Request::post(format!("https://{}/{METHOD}", net.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"))
            .body(())?;
        let mut requests = requests.ready().await?;
        let (response, mut outgoing) = requests.send_request(request, false)?;
        for (i, type_url) in [ADDRESS, AUTHORIZATION].into_iter().enumerate() {
            let node = (i == 0).then(|| Node {
                id: format!("ztunnel~127.0.0.1~weft-node.{name}~cluster.local"),
                ..Node::default()
            });
            let subscribe = DeltaDiscoveryRequest {
                node,
                type_url: type_url.into(),
                ..DeltaDiscoveryRequest::default()
            };
            send(&mut outgoing, &subscribe)?;
        }
        let response = response.await?;
        ensure!(response.status() == 200, "status {}", response.status());
        follow(response.into_body(), outgoing, receipts).await
    };
    tokio::select! {
        ended = connection => ended,
        ended = stream => ended,
    }
}

async fn connect(net: &Net) -> Result<(SendRequest<Bytes>, Connection<Tls, Bytes>)> {
    let tcp = TcpStream::connect(net.address).await?;
    tcp.set_nodelay(true)?;
    let server = ServerName::from(net.address.ip());
    let tls = TlsConnector::from(Arc::clone(&net.tls));
    let tls = tls.connect(server, tcp).await?;
    let mut http2 = h2::client::Builder::new();
    http2
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    Ok(http2.handshake(tls).await?)
}

async fn follow(
    mut body: RecvStream,
    mut outgoing: SendStream<Bytes>,
    receipts: mpsc::UnboundedSender<Receipt>,
) -> Result<()> {
    let mut reader = Reader::default();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        for response in reader.take(&piece)? {
            let _ = receipts.send(Receipt {
                of_addresses: response.type_url == ADDRESS,
                bytes: response.bytes,
                at: Instant::now(),
            });
            let ack = DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                ..DeltaDiscoveryRequest::default()
            };
            send(&mut outgoing, &ack)?;
        }
        body.flow_control().release_capacity(piece.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    anyhow::bail!("the controller ended the stream: {trailers:?}")
}

fn send(stream: &mut SendStream<Bytes>, request: &DeltaDiscoveryRequest) -> Result<()> {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len())?);
    request.encode(&mut message)?;
    Ok(stream.send_data(message.freeze(), false)?)
}
