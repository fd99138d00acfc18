//! Keeps the discovery stream up and publishes what comes over it.
//!
//! The controller may be away at the start or later: the last good state goes on, attempts are repeated
//! with growing pauses, and the log has one line when the state of the connection changes, not one for
//! each attempt.

use mesh_common::proto::xds::DeltaDiscoveryRequest;
use mesh_common::proto::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_common::snapshot::Snapshot;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::SyncStatus;
use super::controller::{Controller, ControllerError};
use super::delta::Delta;
use super::node;
use super::schedule::Backoff;
use crate::enroll::Answer;

/// The largest response that is read: about a million workloads. A controller that sends more, or lies,
/// costs an error and not the node's memory.
const MAX_RESPONSE: usize = 256 << 20;
/// Replies that wait for the controller to read them.
const REPLIES: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The client; runs until nobody wants its state any more.
pub(super) struct Client {
    pub(super) controller: Controller,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    /// Who is enrolled on this node; none when nobody wants to know.
    pub(super) answers: Option<watch::Sender<Option<Arc<Answer>>>>,
    pub(super) status: watch::Sender<SyncStatus>,
}

impl Client {
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.keep_up() => {}
            () = self.publish.closed() => {}
        }
    }

    async fn keep_up(&self) {
        let mut delta = match self.answers {
            Some(_) => Delta::with_enrolment(&self.controller.options().node_name),
            None => Delta::default(),
        };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let Err(error) = self.stream(&mut delta, &mut backoff).await;
            self.disconnected(&error);
            tokio::time::sleep(backoff.after_failure(rand::random())).await;
        }
    }

    /// One stream, from connecting to its end.
    async fn stream(
        &self,
        delta: &mut Delta,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, ControllerError> {
        let controller = &self.controller;
        let channel = controller.connect().await?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let token = controller.token().await?;
        let mut node = Some(node::describe(controller, &token).await);
        let (replies, outgoing) = mpsc::channel(REPLIES);
        let closed = || ControllerError::Closed(controller.uri().to_string());
        for mut request in delta.first_requests() {
            request.node = node.take();
            replies.send(request).await.map_err(|_| closed())?;
        }
        let request = controller.request(ReceiverStream::<DeltaDiscoveryRequest>::new(outgoing));
        let response = client.delta_aggregated_resources(request.await?).await;
        let mut responses = response.map_err(|e| controller.failed(&e))?.into_inner();
        self.connected();
        while let Some(response) = responses
            .message()
            .await
            .map_err(|e| controller.failed(&e))?
        {
            let outcome = delta.apply(response);
            backoff.reset();
            if let (Some(answers), Some(answer)) = (&self.answers, outcome.answer) {
                answers.send_replace(Some(Arc::new(answer)));
            }
            self.applied(outcome.snapshot, &outcome.refused);
            replies.send(outcome.reply).await.map_err(|_| closed())?;
        }
        Err(closed())
    }

    fn connected(&self) {
        tracing::info!("connected to the controller at {}", self.controller.uri());
        self.status.send_modify(|status| {
            status.connected = true;
            status.last_error = None;
        });
    }

    fn applied(&self, snapshot: Option<Snapshot>, refused: &[String]) {
        for why in refused {
            tracing::warn!(
                "the controller's state has an error, the last good version stays: {why}"
            );
        }
        let synced = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            self.publish.send_replace(Arc::new(snapshot));
            tracing::debug!("a new state is in force");
        }
        let mut first = false;
        self.status.send_modify(|status| {
            first = synced && !status.synced;
            status.synced |= synced;
            status.last_update = Some(SystemTime::now());
            status.last_error = refused.first().cloned();
        });
        if first {
            tracing::info!("the first state is complete");
        }
    }

    fn disconnected(&self, error: &ControllerError) {
        let text = error.to_string();
        let mut news = false;
        self.status.send_modify(|status| {
            news = status.connected || status.last_error.as_ref() != Some(&text);
            status.connected = false;
            status.last_error = Some(text.clone());
        });
        let synced = self.status.borrow().synced;
        match (news, synced) {
            (true, true) => tracing::warn!("{text}; trying again, the last good state goes on"),
            (true, false) => tracing::warn!("{text}; trying again, there is no state yet"),
            (false, _) => tracing::debug!("{text}"),
        }
    }
}
