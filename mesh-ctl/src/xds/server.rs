//! The discovery service: authenticates a node, then runs one task per stream.
//!
//! It does without the generated server, which would hold every response of every client as a whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use mesh_common::proto::xds::DeltaDiscoveryRequest;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::codec::BufferSettings;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::Service;

use super::admission::Admission;
use super::body::Body;
use super::options::DiscoveryOptions;
use super::session::Session;
use super::status::Clients;
use crate::auth::Authenticator;
use crate::metrics::Metrics;
use crate::resources::World;
use crate::serve::connection::Peer;

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// What a node says about the resources it holds when it reconnects may be this large.
const MAX_REQUEST: usize = 64 << 20;
/// After its first words a node says little: what is read into is small, and grows when it must.
const BUFFER: usize = 1 << 10;
/// Of no use to a decoder.
const YIELD: usize = 32 << 10;

/// The discovery service; clones share everything.
#[derive(Clone)]
pub struct Discovery {
    worlds: watch::Receiver<Arc<World>>,
    authenticator: Arc<Authenticator>,
    metrics: Metrics,
    clients: Clients,
    options: DiscoveryOptions,
    admission: Admission,
    stop: CancellationToken,
}

impl Discovery {
    /// Serves each world until `stop`; `clients` shows who is connected.
    pub fn new(
        worlds: watch::Receiver<Arc<World>>,
        authenticator: Arc<Authenticator>,
        metrics: Metrics,
        clients: Clients,
        options: DiscoveryOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            worlds,
            authenticator,
            metrics,
            clients,
            options,
            admission: Admission::default(),
            stop,
        }
    }

    async fn stream(self, request: Request<tonic::body::Body>) -> Result<Body, Status> {
        let (parts, body) = request.into_parts();
        if parts.uri.path() != METHOD {
            return Err(Status::unimplemented(
                "only DeltaAggregatedResources is served",
            ));
        }
        let peer = parts.extensions.get::<Peer>().cloned();
        let address = peer.as_ref().map(|peer| peer.address.ip());
        let metadata = MetadataMap::from_headers(parts.headers);
        let authenticated = self.authenticator.node(&metadata, address).await;
        let caller = authenticated.map_err(|refusal| {
            self.metrics.refused_stream(refusal.reason());
            tracing::warn!(caller = %refusal.caller(), reason = refusal.reason(), "stream refused: {refusal}");
            Status::from(&refusal)
        })?;
        let decoder =
            ProstDecoder::<DeltaDiscoveryRequest>::new(BufferSettings::new(BUFFER, YIELD));
        // One response with the transport, one being made: a slow client costs no more.
        let (outgoing, items) = mpsc::channel(1);
        let session = Session {
            caller,
            peer,
            incoming: Streaming::new_request(decoder, body, None, Some(MAX_REQUEST)),
            outgoing,
            worlds: self.worlds,
            admission: self.admission,
            patience: self.options.node_patience,
            metrics: self.metrics.clone(),
            clients: self.clients,
            stop: self.stop,
        };
        tokio::spawn(session.run());
        Ok(Body::new(items, self.metrics))
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<Request<tonic::body::Body>> for Discovery {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
        let this = self.clone();
        Box::pin(async move {
            Ok(match this.stream(request).await {
                Ok(body) => {
                    let mut response = Response::new(tonic::body::Body::new(body));
                    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}
