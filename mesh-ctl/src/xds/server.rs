//! The discovery service: authenticates a node, then runs one task per stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use mesh_common::proto::xds::aggregated_discovery_service_server::AggregatedDiscoveryService;
use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::client::{Client, Received, TooFarBehind};
use crate::auth::{Authenticator, Caller};
use crate::metrics::Metrics;
use crate::resources::World;

/// Nodes ask for both types at once; addresses wait this long for policies to be asked for too.
const GRACE: Duration = Duration::from_secs(1);
/// A node that does not acknowledge a response for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(300);

/// The discovery service.
pub struct Discovery {
    worlds: watch::Receiver<Arc<World>>,
    authenticator: Arc<Authenticator>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Discovery {
    /// Serves each world until `stop`.
    pub fn new(
        worlds: watch::Receiver<Arc<World>>,
        authenticator: Arc<Authenticator>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            worlds,
            authenticator,
            metrics,
            stop,
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request.remote_addr().map(|address| address.ip());
        let caller = self.authenticator.node(request.metadata(), peer).await.map_err(|refusal| {
            self.metrics.refused_stream(refusal.reason());
            tracing::warn!(caller = %refusal.caller(), reason = refusal.reason(), "stream refused: {refusal}");
            Status::from(&refusal)
        })?;
        // One response in flight to the transport, one being built: a slow client costs no more.
        let (outgoing, responses) = mpsc::channel(1);
        let session = Session {
            caller,
            incoming: request.into_inner(),
            outgoing,
            worlds: self.worlds.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        tokio::spawn(session.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

struct Session {
    caller: Caller,
    incoming: Streaming<DeltaDiscoveryRequest>,
    outgoing: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    worlds: watch::Receiver<Arc<World>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Session {
    async fn run(mut self) {
        let _connected = self.metrics.node_connected();
        tracing::info!(caller = %self.caller, "node connected");
        match self.serve().await {
            Ok(()) => tracing::info!(caller = %self.caller, "node disconnected"),
            Err(end) => {
                self.metrics.dropped_stream(end.reason());
                tracing::info!(caller = %self.caller, reason = end.reason(), "stream ended: {end}");
                let _ = self
                    .outgoing
                    .try_send(Err(Status::unavailable(end.to_string())));
            }
        }
    }

    async fn serve(&mut self) -> Result<(), End> {
        let mut client = Client::default();
        let mut node = String::new();
        // Addresses may go out from here on, although policies were not asked for.
        let mut grace = None::<Instant>;
        let mut patience = Instant::now() + PATIENCE;
        let mut idle = false;
        let expires = self.caller.expires_at();
        loop {
            let may_send =
                client.subscribed_to_policies() || grace.is_some_and(|at| at <= Instant::now());
            tokio::select! {
                () = self.stop.cancelled() => return Err(End::Shutdown),
                () = sleep_until(expires) => return Err(End::TokenExpired),
                request = self.incoming.message() => {
                    let Some(request) = request.map_err(End::Transport)? else { return Ok(()) };
                    if let Some(announced) = &request.node {
                        node.clone_from(&announced.id);
                    }
                    self.receive(&mut client, request, &node);
                    grace.get_or_insert_with(|| Instant::now() + GRACE);
                    patience = Instant::now() + PATIENCE;
                    idle = false;
                }
                changed = self.worlds.changed() => {
                    // The sender lives as long as the process.
                    if changed.is_err() { return Err(End::Shutdown) }
                    idle = false;
                }
                permit = self.outgoing.reserve(), if may_send && !idle => {
                    let Ok(permit) = permit else { return Ok(()) };
                    let latest = Arc::clone(&self.worlds.borrow());
                    match client.next(&latest)? {
                        None => idle = true,
                        Some(next) => {
                            if let Some(kind) = next.kind {
                                self.metrics.pushed(kind);
                            }
                            permit.send(Ok(next.response));
                            patience = Instant::now() + PATIENCE;
                        }
                    }
                }
                () = sleep_until(grace.unwrap_or(patience)), if !may_send && grace.is_some() => {}
                () = sleep_until(patience), if client.awaits_acknowledgement() => {
                    return Err(End::Silent);
                }
            }
        }
    }

    fn receive(&self, client: &mut Client, request: DeltaDiscoveryRequest, node: &str) {
        if let Received::Refused { kind, reason } = client.receive(request) {
            self.metrics.refused_push(kind);
            tracing::warn!(
                caller = %self.caller, node, r#type = kind.label(),
                "the node refused a resource: {}", reason.replace('\n', " ")
            );
        }
    }
}

/// Why the controller ends a stream.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the controller is shutting down; connect to another or try again")]
    Shutdown,
    #[error("the token has expired; connect again with a fresh one")]
    TokenExpired,
    #[error("no acknowledgement for {PATIENCE:?}")]
    Silent,
    #[error("too far behind to be updated; connect again")]
    TooFarBehind,
    #[error("the connection broke: {0}")]
    Transport(Status),
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::TokenExpired => "token_expired",
            Self::Silent => "silent",
            Self::TooFarBehind => "too_far_behind",
            Self::Transport(_) => "transport",
        }
    }
}

impl From<TooFarBehind> for End {
    fn from(_: TooFarBehind) -> Self {
        Self::TooFarBehind
    }
}
