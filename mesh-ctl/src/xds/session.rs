//! One stream: requests in, responses out, and an end with a reason.
//!
//! What a client costs is bounded: one world that it is being told of (which shares almost everything
//! with the newest), one response of each type, and of those one piece at a time. One that does not
//! acknowledge in time is dropped with its connection, whatever else it sends or reads.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_common::proto::xds::DeltaDiscoveryRequest;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::admission::Admission;
use super::body::Item;
use super::client::{Client, Received, TooFarBehind};
use super::status::{ClientStatus, Clients, Connected};
use super::subscription::TooManyNames;
use crate::auth::Caller;
use crate::metrics::Metrics;
use crate::resources::{Kind, World};
use crate::serve::connection::Peer;

/// Nodes ask for both types at once; addresses wait this long for policies to be asked for too.
const GRACE: Duration = Duration::from_secs(1);
/// A node that is admitted says within this time what it wants.
const FIRST: Duration = Duration::from_secs(30);
/// The end of a stream reaches the node within this time, or the connection is cut.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) struct Session {
    pub(super) caller: Caller,
    /// Absent when the connection is none of the controller's own.
    pub(super) peer: Option<Peer>,
    pub(super) incoming: Streaming<DeltaDiscoveryRequest>,
    pub(super) outgoing: mpsc::Sender<Result<Item, Status>>,
    pub(super) worlds: watch::Receiver<Arc<World>>,
    pub(super) admission: Admission,
    /// A node that does not acknowledge a response for this long is dropped.
    pub(super) patience: Duration,
    pub(super) metrics: Metrics,
    pub(super) clients: Clients,
    pub(super) stop: CancellationToken,
}

impl Session {
    pub(super) async fn run(mut self) {
        let _counted = self.metrics.node_connected();
        let connected = self.clients.connected(ClientStatus {
            caller: self.caller.to_string(),
            caller_node: self.caller.node.clone(),
            address: self.peer.as_ref().map(|peer| peer.address),
            since: Some(SystemTime::now()),
            ..ClientStatus::default()
        });
        tracing::info!(caller = %self.caller, "node connected");
        let end = self.serve(&connected).await;
        drop(connected);
        match end {
            Ok(()) => tracing::info!(caller = %self.caller, "node disconnected"),
            Err(end) => {
                self.metrics.dropped_stream(end.reason());
                tracing::info!(caller = %self.caller, reason = end.reason(), "stream ended: {end}");
                self.farewell(Status::unavailable(end.to_string())).await;
            }
        }
    }

    /// Tells the node why, if it listens; if it does not, its connection ends.
    async fn farewell(&self, status: Status) {
        let tell = async {
            if self.outgoing.send(Err(status)).await.is_ok() {
                self.outgoing.closed().await;
            }
        };
        if timeout(FAREWELL, tell).await.is_err()
            && let Some(peer) = &self.peer
        {
            peer.close.cancel();
        }
    }

    async fn serve(&mut self, connected: &Connected) -> Result<(), End> {
        let stop = self.stop.clone();
        let admission = self.admission.clone();
        // Until then nothing is read from the node.
        let mut admitted = tokio::select! {
            () = stop.cancelled() => return Err(End::Shutdown),
            slot = admission.admit(&self.caller.node) => slot,
            () = self.outgoing.closed() => return Ok(()),
        };
        tokio::select! {
            () = stop.cancelled() => return Err(End::Shutdown),
            world = self.worlds.wait_for(|world| world.generation() > 0) => drop(world),
            () = self.outgoing.closed() => return Ok(()),
        }
        let expires = self.caller.expires_at();
        let began = Instant::now();
        let mut client = Client::default();
        let mut node = String::new();
        // Addresses may go out from here on, although policies were not asked for.
        let mut grace = None::<Instant>;
        let mut idle = false;
        loop {
            let policies = client.subscribed_to_policies();
            let may_send = policies || grace.is_some_and(|at| at <= Instant::now());
            if may_send {
                drop(admitted.take());
            }
            let awaits = client
                .awaits_since()
                .map(|at| Instant::from_std(at) + self.patience);
            let deadline = awaits.or_else(|| grace.is_none().then_some(began + FIRST));
            tokio::select! {
                () = stop.cancelled() => return Err(End::Shutdown),
                () = sleep_until(expires) => return Err(End::TokenExpired),
                () = sleep_until(deadline.unwrap_or(began)), if deadline.is_some() => {
                    return Err(if awaits.is_some() { End::Silent(self.patience) } else { End::Mute });
                }
                request = self.incoming.message() => {
                    let Some(request) = request.map_err(End::Transport)? else { return Ok(()) };
                    if let Some(announced) = &request.node {
                        node.clone_from(&announced.id);
                        connected.update(|status| status.node.clone_from(&node));
                    }
                    let latest = Arc::clone(&self.worlds.borrow());
                    let received = client.receive(request, &latest)?;
                    self.report(received, &node);
                    self.show(&client, connected);
                    grace.get_or_insert_with(|| Instant::now() + GRACE);
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
                    match client.next(&latest, Instant::now().into_std())? {
                        None => idle = true,
                        Some(next) => {
                            if let Some(kind) = next.kind {
                                self.metrics.pushed(kind);
                            }
                            permit.send(Ok(Item { message: next.message, since: next.since }));
                            self.show(&client, connected);
                        }
                    }
                }
                () = self.outgoing.closed() => return Ok(()),
                () = sleep_until(grace.unwrap_or(began)), if !may_send && grace.is_some() => {}
            }
        }
    }

    fn show(&self, client: &Client, connected: &Connected) {
        connected.update(|status| {
            for (kind, shown) in Kind::ALL.into_iter().zip(&mut status.kinds) {
                shown.clone_from(client.status(kind));
            }
        });
    }

    fn report(&self, received: Received, node: &str) {
        let Received::Refused {
            kind,
            reason,
            names,
        } = received
        else {
            return;
        };
        self.metrics.refused_push(kind);
        for name in &names {
            self.metrics.refused_resource(kind, &self.caller.node, name);
        }
        tracing::warn!(
            caller = %self.caller, node, r#type = kind.label(), resources = ?names,
            "the node refused a resource: {}", reason.replace('\n', " ")
        );
    }
}

/// Why the controller ends a stream.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the controller is shutting down; connect to another or try again")]
    Shutdown,
    #[error("the token has expired; connect again with a fresh one")]
    TokenExpired,
    #[error("no acknowledgement for {0:?}")]
    Silent(Duration),
    #[error("no request for {FIRST:?}")]
    Mute,
    #[error("too far behind to be updated; connect again")]
    TooFarBehind,
    #[error("too many names are subscribed to; subscribe to everything")]
    TooManyNames,
    #[error("the connection broke: {0}")]
    Transport(Status),
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::TokenExpired => "token_expired",
            Self::Silent(_) => "silent",
            Self::Mute => "mute",
            Self::TooFarBehind => "too_far_behind",
            Self::TooManyNames => "too_many_names",
            Self::Transport(_) => "transport",
        }
    }
}

impl From<TooFarBehind> for End {
    fn from(_: TooFarBehind) -> Self {
        Self::TooFarBehind
    }
}

impl From<TooManyNames> for End {
    fn from(_: TooManyNames) -> Self {
        Self::TooManyNames
    }
}
