//! The delta state of one client.
//!
//! Guarantees:
//! - The first response of a type is one message with everything that the client lacks, even when it
//!   lacks nothing: a client may wait for it before it acts on what it knows.
//! - A change reaches the client in an order that never leaves it without a policy it needs: new and
//!   changed policies, then addresses, then the removal of policies, all from one [`World`].
//! - At most one response of each type awaits its acknowledgement. A client that falls behind is
//!   served from the newest world when it is ready, never from a queue.

use std::sync::Arc;

use mesh_common::proto::xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};

use super::subscription::{Delta, Subscription};
use crate::resources::{Kind, Resource, World};

/// More unanswered questions for types that are not served are not remembered.
const MAX_UNKNOWN: usize = 16;

/// What a request amounted to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing to report.
    Taken,
    /// The client refused a response.
    Refused {
        /// The type refused.
        kind: Kind,
        /// Why, in the client's words.
        reason: String,
    },
}

/// A response, and the kind it is of (`None` for a type that is not served).
#[derive(Debug)]
pub struct Outgoing {
    /// For the metrics.
    pub kind: Option<Kind>,
    /// To be sent.
    pub response: DeltaDiscoveryResponse,
}

/// The changes that a client missed are no longer known: it must connect anew.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFarBehind;

#[derive(Debug, Default)]
struct Channel {
    subscription: Option<Subscription>,
    /// The first response, or one to a later subscribe, is owed even when there is nothing to say.
    owed: bool,
    awaiting: Option<String>,
}

impl Channel {
    fn ready(&self) -> bool {
        self.subscription.is_some() && self.awaiting.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Policies,
    Addresses,
    Removals,
}

/// One walk through the stages with one world.
#[derive(Debug)]
struct Round {
    world: Arc<World>,
    stage: Stage,
    /// Nothing was sent yet: a newer world may still take its place.
    fresh: bool,
    /// Policies that go once the addresses which named them have gone.
    removed: Vec<Arc<str>>,
}

/// The state of one client.
#[derive(Debug, Default)]
pub struct Client {
    policies: Channel,
    addresses: Channel,
    unknown: Vec<String>,
    round: Option<Round>,
    /// The generation of the last completed round.
    done: u64,
    nonce: u64,
}

impl Client {
    /// Takes a request in.
    pub fn receive(&mut self, mut request: DeltaDiscoveryRequest) -> Received {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            if request.response_nonce.is_empty() && self.unknown.len() < MAX_UNKNOWN {
                self.unknown.push(request.type_url);
            }
            return Received::Taken;
        };
        let channel = self.channel(kind);
        let mut received = Received::Taken;
        if channel
            .awaiting
            .as_deref()
            .is_some_and(|nonce| nonce == request.response_nonce)
        {
            channel.awaiting = None;
            if let Some(detail) = request.error_detail.take() {
                received = Received::Refused {
                    kind,
                    reason: detail.message,
                };
            }
        }
        let asks = match &mut channel.subscription {
            None => {
                channel.subscription = Some(Subscription::new(&mut request));
                true
            }
            Some(subscription) => subscription.update(&mut request),
        };
        if asks {
            channel.owed = true;
            // A round that has passed this stage is walked again from the start.
            self.done = 0;
        }
        received
    }

    /// True when the client said which types it wants, so that their order can be kept.
    pub fn subscribed_to_policies(&self) -> bool {
        self.policies.subscription.is_some()
    }

    /// True while a response awaits its acknowledgement.
    pub fn awaits_acknowledgement(&self) -> bool {
        self.policies.awaiting.is_some() || self.addresses.awaiting.is_some()
    }

    /// The next response to send, if there is one that can be sent now.
    pub fn next(&mut self, latest: &Arc<World>) -> Result<Option<Outgoing>, TooFarBehind> {
        if let Some(type_url) = self.unknown.pop() {
            let response = DeltaDiscoveryResponse {
                type_url,
                nonce: self.next_nonce(),
                ..Default::default()
            };
            return Ok(Some(Outgoing {
                kind: None,
                response,
            }));
        }
        loop {
            let Some(round) = &mut self.round else {
                let idle =
                    self.policies.subscription.is_none() && self.addresses.subscription.is_none();
                if idle || latest.generation() <= self.done || latest.generation() == 0 {
                    return Ok(None);
                }
                self.round = Some(Round {
                    world: Arc::clone(latest),
                    stage: Stage::Policies,
                    fresh: true,
                    removed: Vec::new(),
                });
                continue;
            };
            if round.fresh && latest.generation() > round.world.generation() {
                (round.world, round.stage) = (Arc::clone(latest), Stage::Policies);
            }
            let world = Arc::clone(&round.world);
            let step = match round.stage {
                Stage::Policies => Self::policies(&mut self.policies, round)?,
                Stage::Addresses => Self::addresses(&mut self.addresses, &world)?,
                Stage::Removals => Self::removals(&mut self.policies, round),
            };
            let Step::Done(delta) = step else {
                return Ok(None);
            };
            let stage = round.stage;
            round.fresh &= delta.is_none();
            match stage {
                Stage::Policies => round.stage = Stage::Addresses,
                Stage::Addresses => round.stage = Stage::Removals,
                Stage::Removals => {
                    self.round = None;
                    // Something asked for in the meantime is answered by another round.
                    let owed = self.policies.owed || self.addresses.owed;
                    self.done = if owed { 0 } else { world.generation() };
                }
            }
            if let Some(delta) = delta {
                let kind = match stage {
                    Stage::Addresses => Kind::Address,
                    Stage::Policies | Stage::Removals => Kind::Authorization,
                };
                return Ok(Some(self.outgoing(kind, &world, &delta)));
            }
        }
    }

    fn policies(channel: &mut Channel, round: &mut Round) -> Result<Step, TooFarBehind> {
        let table = round.world.table(Kind::Authorization);
        let Some(subscription) = &mut channel.subscription else {
            return Ok(Step::Done(None));
        };
        let mut delta = subscription.delta(table).ok_or(TooFarBehind)?;
        let send = !delta.is_empty() || channel.owed;
        if send && channel.awaiting.is_some() {
            return Ok(Step::Wait);
        }
        subscription.served(table, round.world.generation());
        let removed = std::mem::take(&mut delta.removed);
        round.removed.extend(removed);
        let send = !delta.changed.is_empty() || channel.owed;
        channel.owed = false;
        Ok(Step::Done(send.then_some(delta)))
    }

    fn addresses(channel: &mut Channel, world: &World) -> Result<Step, TooFarBehind> {
        let table = world.table(Kind::Address);
        let Some(subscription) = &mut channel.subscription else {
            return Ok(Step::Done(None));
        };
        let delta = subscription.delta(table).ok_or(TooFarBehind)?;
        let send = !delta.is_empty() || channel.owed;
        if send && channel.awaiting.is_some() {
            return Ok(Step::Wait);
        }
        subscription.served(table, world.generation());
        channel.owed = false;
        Ok(Step::Done(send.then_some(delta)))
    }

    fn removals(channel: &mut Channel, round: &mut Round) -> Step {
        let table = round.world.table(Kind::Authorization);
        round.removed.retain(|name| table.get(name).is_none());
        if round.removed.is_empty() {
            return Step::Done(None);
        }
        if !channel.ready() {
            return Step::Wait;
        }
        let removed = std::mem::take(&mut round.removed).into_iter().collect();
        Step::Done(Some(Delta {
            removed,
            ..Delta::default()
        }))
    }

    fn outgoing(&mut self, kind: Kind, world: &World, delta: &Delta) -> Outgoing {
        let nonce = self.next_nonce();
        self.channel(kind).awaiting = Some(nonce.clone());
        let wire = |resource: &Arc<Resource>| WireResource {
            name: resource.name.to_string(),
            version: resource.version.to_string(),
            resource: Some(prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value: resource.body.to_vec(),
            }),
            aliases: resource.aliases.iter().map(ToString::to_string).collect(),
            ..WireResource::default()
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: world.generation().to_string(),
            resources: delta.changed.values().map(wire).collect(),
            type_url: kind.type_url().to_owned(),
            nonce,
            removed_resources: delta.removed.iter().map(ToString::to_string).collect(),
        };
        Outgoing {
            kind: Some(kind),
            response,
        }
    }

    fn channel(&mut self, kind: Kind) -> &mut Channel {
        match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.policies,
        }
    }

    fn next_nonce(&mut self) -> String {
        self.nonce += 1;
        self.nonce.to_string()
    }
}

enum Step {
    /// The stage is complete, with what is to be sent for it.
    Done(Option<Delta>),
    /// An acknowledgement must come first.
    Wait,
}
