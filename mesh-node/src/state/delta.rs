//! The client side of delta discovery as a pure state machine: responses in; replies, state and
//! complaints out.
//!
//! A resource that cannot be used is refused (NACK) by name and its last good version stays; the other
//! resources of the same response are applied. No state is published before workloads and policies were
//! both answered once, so that no connection is judged by workloads without their policies. Who is enrolled
//! on this node is asked for by name, and published apart from that.

use mesh_common::proto::security::Authorization;
use mesh_common::proto::weft::enrolment::Enrolment;
use mesh_common::proto::workload::Address;
use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource, Status};
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use prost::Message;
use std::collections::HashMap;

use crate::enroll::{Answer, KnownPod};

/// Type URL of workloads and services.
pub(super) const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of policies.
pub(super) const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";

/// Type URL of who is enrolled.
pub(super) const ENROLMENT: &str = "type.googleapis.com/weft.enrolment.Enrolment";
/// The resource with the namespaces that are in the mesh.
const NAMESPACES: &str = "namespaces";

/// google.rpc.Code.INVALID_ARGUMENT
const INVALID_ARGUMENT: i32 = 3;
/// A NACK names at most this many resources.
const NAMED_IN_NACK: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Address,
    Authorization,
    Enrolment,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Address, Self::Authorization, Self::Enrolment];
    /// What a state is made of.
    const STATE: [Self; 2] = [Self::Address, Self::Authorization];

    fn type_url(self) -> &'static str {
        match self {
            Self::Address => ADDRESS,
            Self::Authorization => AUTHORIZATION,
            Self::Enrolment => ENROLMENT,
        }
    }
}

/// What is held of one type.
#[derive(Debug, Default)]
struct Held {
    /// Version by name; empty for a resource that never had a good version.
    versions: HashMap<String, String>,
    answered: bool,
}

/// The state of the subscription; it outlives the streams.
#[derive(Debug, Default)]
pub(super) struct Delta {
    builder: SnapshotBuilder,
    addresses: Held,
    authorizations: Held,
    enrolments: Held,
    /// The resource with the pods of this node; none when nobody asks who is enrolled.
    node: Option<String>,
    answer: Answer,
}

/// What follows from a response.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The ACK or NACK.
    pub(super) reply: DeltaDiscoveryRequest,
    /// The new state, once there is a complete one.
    pub(super) snapshot: Option<Snapshot>,
    /// Who is enrolled, when that was answered.
    pub(super) answer: Option<Answer>,
    /// Each resource that was refused, with the reason.
    pub(super) refused: Vec<String>,
}

impl Delta {
    /// A subscription that also asks who is enrolled on this node.
    pub(super) fn with_enrolment(node: &str) -> Self {
        Self {
            node: Some(format!("node/{node}")),
            ..Self::default()
        }
    }

    /// The requests that begin a stream: everything is subscribed, and what is held is stated.
    pub(super) fn first_requests(&self) -> Vec<DeltaDiscoveryRequest> {
        let request = |kind: Kind| DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            initial_resource_versions: self.held(kind).versions.clone(),
            ..Default::default()
        };
        let mut requests = Vec::from(Kind::STATE.map(request));
        if let Some(node) = &self.node {
            requests.push(DeltaDiscoveryRequest {
                resource_names_subscribe: vec![node.clone(), NAMESPACES.into()],
                ..request(Kind::Enrolment)
            });
        }
        requests
    }

    /// Takes a response.
    pub(super) fn apply(&mut self, response: DeltaDiscoveryResponse) -> Outcome {
        let DeltaDiscoveryResponse {
            type_url,
            nonce,
            resources,
            removed_resources,
            ..
        } = response;
        let Some(kind) = Kind::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
        else {
            let why = format!("type {type_url:?} was not asked for");
            return Outcome {
                reply: reply(type_url, nonce, &[&why]),
                snapshot: None,
                answer: None,
                refused: vec![why],
            };
        };
        for name in &removed_resources {
            self.remove(kind, name);
        }
        let mut refused = Vec::new();
        for resource in resources {
            if let Err(why) = self.upsert(kind, resource) {
                refused.push(why);
            }
        }
        self.held_mut(kind).answered = true;
        let complete = Kind::STATE.into_iter().all(|kind| self.held(kind).answered);
        let named: Vec<&str> = refused.iter().map(String::as_str).collect();
        Outcome {
            reply: reply(type_url, nonce, &named),
            snapshot: (complete && !matches!(kind, Kind::Enrolment))
                .then(|| self.builder.to_snapshot()),
            answer: matches!(kind, Kind::Enrolment).then(|| self.answer.clone()),
            refused,
        }
    }

    fn upsert(&mut self, kind: Kind, resource: Resource) -> Result<(), String> {
        let Resource {
            name,
            version,
            resource,
            ..
        } = resource;
        if name.is_empty() {
            return Err(format!(
                "a resource of type {} has no name",
                kind.type_url()
            ));
        }
        let applied = self.decode(kind, &name, resource);
        let versions = &mut self.held_mut(kind).versions;
        match applied {
            Ok(()) => {
                versions.insert(name, version);
                Ok(())
            }
            Err(why) => {
                // Held without a version: sent again after a reconnect, or named as removed.
                versions.entry(name).or_default();
                Err(why)
            }
        }
    }

    fn decode(
        &mut self,
        kind: Kind,
        name: &str,
        resource: Option<prost_types::Any>,
    ) -> Result<(), String> {
        let any = resource.unwrap_or_default();
        let wrong_type = any.type_url != kind.type_url();
        let about = |why: &dyn std::fmt::Display| format!("resource {name:?}: {why}");
        match kind {
            _ if wrong_type => {
                if matches!(kind, Kind::Authorization) {
                    self.builder.unreadable_policy(name);
                }
                Err(about(&format_args!(
                    "it is a {:?}, not a {:?}",
                    any.type_url,
                    kind.type_url()
                )))
            }
            Kind::Address => {
                let address = Address::decode(&*any.value).map_err(|e| about(&e))?;
                self.builder
                    .upsert_address(name, address)
                    .map_err(|e| about(&e))
            }
            Kind::Enrolment => {
                let enrolment = Enrolment::decode(&*any.value).map_err(|e| about(&e))?;
                if name == NAMESPACES {
                    self.answer.namespaces = enrolment.namespaces.into_iter().collect();
                } else if self.node.as_deref() == Some(name) {
                    let pods = enrolment.pods.into_iter().map(KnownPod::try_from);
                    self.answer.pods = pods.collect::<Result<_, _>>().map_err(|e| about(&e))?;
                } else {
                    return Err(about(&"it was not asked for"));
                }
                Ok(())
            }
            Kind::Authorization => match Authorization::decode(&*any.value) {
                Ok(policy) => self
                    .builder
                    .upsert_policy(name, policy)
                    .map_err(|e| about(&e)),
                Err(e) => {
                    self.builder.unreadable_policy(name);
                    Err(about(&e))
                }
            },
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Address => self.builder.remove_address(name),
            Kind::Authorization => self.builder.remove_policy(name),
            Kind::Enrolment if name == NAMESPACES => self.answer.namespaces.clear(),
            Kind::Enrolment if self.node.as_deref() == Some(name) => self.answer.pods.clear(),
            Kind::Enrolment => {}
        }
        self.held_mut(kind).versions.remove(name);
    }

    fn held(&self, kind: Kind) -> &Held {
        match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.authorizations,
            Kind::Enrolment => &self.enrolments,
        }
    }

    fn held_mut(&mut self, kind: Kind) -> &mut Held {
        match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.authorizations,
            Kind::Enrolment => &mut self.enrolments,
        }
    }
}

fn reply(type_url: String, nonce: String, refused: &[&str]) -> DeltaDiscoveryRequest {
    let error_detail = (!refused.is_empty()).then(|| Status {
        code: INVALID_ARGUMENT,
        message: summary(refused),
        details: Vec::new(),
    });
    DeltaDiscoveryRequest {
        type_url,
        response_nonce: nonce,
        error_detail,
        ..Default::default()
    }
}

fn summary(refused: &[&str]) -> String {
    let named = &refused[..refused.len().min(NAMED_IN_NACK)];
    match refused.len() - named.len() {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}
