//! The delta state of one client.
//!
//! Guarantees:
//! - The first response of a type is one message with everything that the client lacks, even when it
//!   lacks nothing: a client may wait for it before it acts on what it knows. It is streamed, never
//!   held as a whole.
//! - A change reaches the client in an order that never leaves it without a policy it needs: new and
//!   changed policies, then addresses, then the removal of policies, then who is enrolled, all from one [`World`].
//! - At most one response of each type awaits its acknowledgement. A client that falls behind is
//!   served from the newest world when it is ready, never from a queue.

use std::sync::Arc;
use std::time::Instant;

use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::message::{Message, Resources};
use super::status::{KindStatus, Push};
use super::subscription::{Lacks, Subscription, TooManyNames};
use crate::resources::{Kind, Table, World};

/// More unanswered questions for types that are not served are not remembered.
const MAX_UNKNOWN: usize = 16;
/// A refusal is counted for at most this many resources.
const MAX_REFUSED: usize = 10;

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
        /// The resources that the reason names.
        names: Vec<Arc<str>>,
    },
}

/// A response, and the kind it is of (`None` for a type that is not served).
#[derive(Debug)]
pub struct Outgoing {
    /// For the metrics.
    pub kind: Option<Kind>,
    /// To be sent.
    pub message: Message,
    /// When the first of the changes in it came, where that is known.
    pub since: Option<Instant>,
}

/// The changes that a client missed are no longer known: it must connect anew.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFarBehind;

#[derive(Debug)]
struct Awaited {
    nonce: String,
    sent: Instant,
}

#[derive(Debug, Default)]
struct Channel {
    subscription: Option<Subscription>,
    /// The first response, or one to a later subscribe, is owed even when there is nothing to say.
    owed: bool,
    awaited: Option<Awaited>,
    status: KindStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Policies,
    Addresses,
    Removals,
    Enrolments,
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
    enrolments: Channel,
    unknown: Vec<String>,
    round: Option<Round>,
    /// The generation of the last completed round.
    done: u64,
    nonce: u64,
}

impl Client {
    /// Takes a request in. What the client says it holds is compared with `world`.
    pub fn receive(
        &mut self,
        mut request: DeltaDiscoveryRequest,
        world: &World,
    ) -> Result<Received, TooManyNames> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            if request.response_nonce.is_empty() && self.unknown.len() < MAX_UNKNOWN {
                self.unknown.push(request.type_url);
            }
            return Ok(Received::Taken);
        };
        let channel = self.channel(kind);
        let mut received = Received::Taken;
        let answers = |awaited: &Awaited| awaited.nonce == request.response_nonce;
        if channel.awaited.as_ref().is_some_and(answers) {
            channel.awaited = None;
            channel.status.answered(request.error_detail.as_ref());
            if let Some(detail) = request.error_detail.take() {
                received = Received::Refused {
                    kind,
                    names: named(&detail.message, world.table(kind)),
                    reason: detail.message,
                };
            }
        }
        let asks = match &mut channel.subscription {
            None => {
                let (table, generation) = (world.table(kind), world.generation());
                let new = Subscription::new(&mut request, table, generation)?;
                channel.subscription = Some(new);
                true
            }
            Some(subscription) => subscription.update(&mut request)?,
        };
        if let Some(subscription) = &channel.subscription {
            (channel.status.wildcard, channel.status.names) = subscription.summary();
        }
        if asks {
            channel.owed = true;
            // A round that has passed this stage is walked again from the start.
            self.done = 0;
        }
        Ok(received)
    }

    /// True when the client said which types it wants, so that their order can be kept.
    pub fn subscribed_to_policies(&self) -> bool {
        self.policies.subscription.is_some()
    }

    /// When the oldest response was sent that awaits its acknowledgement. Nothing else that the client
    /// sends counts for one.
    pub fn awaits_since(&self) -> Option<Instant> {
        let channels = [&self.policies, &self.addresses, &self.enrolments];
        let awaited = channels.map(|channel| channel.awaited.as_ref());
        awaited
            .into_iter()
            .flatten()
            .map(|awaited| awaited.sent)
            .min()
    }

    /// What the client was sent of a kind.
    pub fn status(&self, kind: Kind) -> &KindStatus {
        match kind {
            Kind::Address => &self.addresses.status,
            Kind::Authorization => &self.policies.status,
            Kind::Enrolment => &self.enrolments.status,
        }
    }

    /// The next response to send, if there is one that can be sent now.
    pub fn next(
        &mut self,
        latest: &Arc<World>,
        now: Instant,
    ) -> Result<Option<Outgoing>, TooFarBehind> {
        if let Some(type_url) = self.unknown.pop() {
            let head = DeltaDiscoveryResponse {
                type_url,
                nonce: self.next_nonce(),
                ..Default::default()
            };
            return Ok(Some(Outgoing {
                kind: None,
                message: Message::new(&head, Resources::default()),
                since: None,
            }));
        }
        loop {
            let Some(round) = &mut self.round else {
                let channels = [&self.policies, &self.addresses, &self.enrolments];
                let idle = channels
                    .iter()
                    .all(|channel| channel.subscription.is_none());
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
                Stage::Addresses => Self::changes(&mut self.addresses, &world, Kind::Address)?,
                Stage::Enrolments => Self::changes(&mut self.enrolments, &world, Kind::Enrolment)?,
                Stage::Removals => Self::removals(&mut self.policies, round),
            };
            let Step::Done(lacks) = step else {
                return Ok(None);
            };
            let stage = round.stage;
            round.fresh &= lacks.is_none();
            match stage {
                Stage::Policies => round.stage = Stage::Addresses,
                Stage::Addresses => round.stage = Stage::Removals,
                Stage::Removals => round.stage = Stage::Enrolments,
                Stage::Enrolments => {
                    self.round = None;
                    // Something asked for in the meantime is answered by another round.
                    let owed = self.policies.owed || self.addresses.owed || self.enrolments.owed;
                    self.done = if owed { 0 } else { world.generation() };
                }
            }
            if let Some(lacks) = lacks {
                let kind = match stage {
                    Stage::Addresses => Kind::Address,
                    Stage::Policies | Stage::Removals => Kind::Authorization,
                    Stage::Enrolments => Kind::Enrolment,
                };
                return Ok(Some(self.outgoing(kind, &world, lacks, now)));
            }
        }
    }

    fn policies(channel: &mut Channel, round: &mut Round) -> Result<Step, TooFarBehind> {
        let table = round.world.table(Kind::Authorization);
        let Some(subscription) = &mut channel.subscription else {
            return Ok(Step::Done(None));
        };
        let mut lacks = subscription.lacks(table).ok_or(TooFarBehind)?;
        let send = !lacks.is_empty() || channel.owed;
        if send && channel.awaited.is_some() {
            return Ok(Step::Wait);
        }
        subscription.served(table, round.world.generation());
        round.removed.append(&mut lacks.removed);
        let send = lacks.count > 0 || channel.owed;
        channel.owed = false;
        Ok(Step::Done(send.then_some(lacks)))
    }

    fn changes(channel: &mut Channel, world: &World, kind: Kind) -> Result<Step, TooFarBehind> {
        let table = world.table(kind);
        let Some(subscription) = &mut channel.subscription else {
            return Ok(Step::Done(None));
        };
        let lacks = subscription.lacks(table).ok_or(TooFarBehind)?;
        let send = !lacks.is_empty() || channel.owed;
        if send && channel.awaited.is_some() {
            return Ok(Step::Wait);
        }
        subscription.served(table, world.generation());
        channel.owed = false;
        Ok(Step::Done(send.then_some(lacks)))
    }

    fn removals(channel: &mut Channel, round: &mut Round) -> Step {
        let table = round.world.table(Kind::Authorization);
        round.removed.retain(|name| table.named(name).is_none());
        if round.removed.is_empty() {
            return Step::Done(None);
        }
        if channel.subscription.is_none() || channel.awaited.is_some() {
            return Step::Wait;
        }
        Step::Done(Some(Lacks {
            removed: std::mem::take(&mut round.removed),
            ..Lacks::default()
        }))
    }

    fn outgoing(&mut self, kind: Kind, world: &World, lacks: Lacks, now: Instant) -> Outgoing {
        let nonce = self.next_nonce();
        let head = DeltaDiscoveryResponse {
            system_version_info: world.generation().to_string(),
            type_url: kind.type_url().to_owned(),
            nonce: nonce.clone(),
            removed_resources: lacks.removed.iter().map(ToString::to_string).collect(),
            resources: Vec::new(),
        };
        let message = Message::new(&head, lacks.changed);
        let channel = self.channel(kind);
        channel.awaited = Some(Awaited { nonce, sent: now });
        channel.status.sent(Push {
            generation: world.generation(),
            resources: lacks.count,
            removed: lacks.removed.len(),
            bytes: message.wire_len(),
            at: std::time::SystemTime::now(),
        });
        Outgoing {
            kind: Some(kind),
            message,
            since: lacks.since,
        }
    }

    fn channel(&mut self, kind: Kind) -> &mut Channel {
        match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.policies,
            Kind::Enrolment => &mut self.enrolments,
        }
    }

    fn next_nonce(&mut self) -> String {
        self.nonce += 1;
        self.nonce.to_string()
    }
}

/// The resources that a refusal names: it has the name as a word, with or without quotes.
fn named(reason: &str, table: &Table) -> Vec<Arc<str>> {
    let around = |c: char| c.is_whitespace() || "\"'`,;()[]{}<>".contains(c);
    let words = reason
        .split(around)
        .map(|word| word.trim_end_matches([':', '.']));
    let resources = words.filter_map(|word| table.named(word));
    let mut names: Vec<_> = resources
        .map(|resource| Arc::clone(&resource.name))
        .collect();
    names.dedup();
    names.truncate(MAX_REFUSED);
    names
}

enum Step {
    /// The stage is complete, with what is to be sent for it.
    Done(Option<Lacks>),
    /// An acknowledgement must come first.
    Wait,
}
