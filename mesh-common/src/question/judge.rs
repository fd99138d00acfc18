//! One client, one server: what the mesh does, and what policy says.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

use super::source::Client;
use super::target::{Server, Target};
use crate::abi::{HBONE_PORT, INBOUND_PORT, OUTBOUND_PORT};
use crate::identity::SpiffeId;
use crate::lb;
use crate::policy::{Connection, Explanation, NearMiss, Verdict, decide, explain, nearest};
use crate::snapshot::Snapshot;
use crate::workload::{Tunnel, Workload};

/// What policies see as the client's port: none of them asks for it.
const CLIENT_PORT: u16 = 0;
const AGENT_PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PORT, HBONE_PORT];

/// What the mesh does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Through a tunnel; the server's agent decides on the identity that TLS proved.
    MutualTls,
    /// In the clear; the server's agent decides, and knows no identity.
    Plaintext,
    /// No agent decides: the connection is made whatever policies say.
    NotEnforced,
    /// An agent refuses it before policy.
    Refused,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Judged {
    /// What the mesh does with it.
    pub route: Route,
    /// Why nothing is enforced, or why it is refused before policy.
    pub because: Option<&'static str>,
    /// What policy says, or would say if it were enforced; none where no workload is known.
    pub verdict: Option<Verdict>,
}

impl Judged {
    /// Whether the connection is made.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let by_policy = || self.verdict.as_ref().is_some_and(Verdict::is_allow);
        match self.route {
            Route::MutualTls | Route::Plaintext => by_policy(),
            Route::NotEnforced => true,
            Route::Refused => false,
        }
    }
}

/// Says what becomes of a connection to one of the servers of `target`.
#[must_use]
pub fn judge(snapshot: &Snapshot, client: &Client, target: &Target, server: &Server) -> Judged {
    let (route, because) = route(client, target, server);
    let identity = proven(route, client);
    let verdict = server.workload.as_ref().map(|workload| {
        let conn = connection(client, server, identity.as_ref());
        decide(&snapshot.policies_for(workload), &conn)
    });
    Judged {
        route,
        because,
        verdict,
    }
}

/// The rule that came nearest to allowing a connection which no rule allows.
#[must_use]
pub fn nearest_rule(
    snapshot: &Snapshot,
    client: &Client,
    server: &Server,
    route: Route,
) -> Option<NearMiss> {
    let identity = proven(route, client);
    let workload = server.workload.as_ref()?;
    let conn = connection(client, server, identity.as_ref());
    nearest(&snapshot.policies_for(workload), &conn)
}

/// The long form of what [`judge`] says of policy.
pub(super) fn explained(
    snapshot: &Snapshot,
    client: &Client,
    server: &Server,
    route: Route,
) -> Option<Explanation> {
    let identity = proven(route, client);
    let workload = server.workload.as_ref()?;
    let conn = connection(client, server, identity.as_ref());
    Some(explain(&snapshot.policies_for(workload), &conn))
}

/// What the client proves. Where nothing is enforced: what it would prove if it were.
pub(super) fn proven(route: Route, client: &Client) -> Option<SpiffeId> {
    client.identity().filter(|_| route != Route::Plaintext)
}

fn connection<'a>(
    client: &Client,
    server: &Server,
    principal: Option<&'a SpiffeId>,
) -> Connection<'a> {
    let source = client.address_towards(server.address.ip());
    Connection {
        source: SocketAddr::new(source, CLIENT_PORT),
        destination: server.address,
        principal,
    }
}

fn route(client: &Client, target: &Target, server: &Server) -> (Route, Option<&'static str>) {
    let Some(workload) = &server.workload else {
        let why =
            "the mesh knows nothing of the address and passes connections to it on as they are";
        return (Route::NotEnforced, Some(why));
    };
    let waypoint = target.balanced().is_some_and(|s| s.waypoint) || workload.waypoint;
    if client.is_enrolled() && waypoint {
        let why = "the destination is behind a waypoint, which agents do not go around";
        return (Route::Refused, Some(why));
    }
    if workload.host_network {
        let why = "the destination is in its node's network, which the mesh never captures";
        return (Route::NotEnforced, Some(why));
    }
    if workload.tunnel != Tunnel::Hbone {
        let why = "the destination is not enrolled in the mesh";
        return (Route::NotEnforced, Some(why));
    }
    let same = |c: &Arc<Workload>| c.uid == workload.uid;
    if target.balanced().is_none() && client.workload.as_ref().is_some_and(same) {
        let why = "a pod's connections to its own address are not captured";
        return (Route::NotEnforced, Some(why));
    }
    let on_its_node = |node: &Arc<str>| !node.is_empty() && *node == workload.node;
    if client.on_node.as_ref().is_some_and(on_its_node) {
        let why = "it comes from the destination's own node, as kubelet's probes do, which the mesh lets in";
        return (Route::NotEnforced, Some(why));
    }
    if AGENT_PORTS.contains(&server.address.port()) {
        let why = "the port is the agent's own";
        return (Route::Refused, Some(why));
    }
    let elsewhere = target.balanced().zip(client.workload.as_ref());
    if elsewhere.is_some_and(|(service, client)| lb::rules_out(service, client, workload)) {
        let why = "the service only uses endpoints near the client, and this one is not";
        return (Route::Refused, Some(why));
    }
    match client.is_enrolled() && !target.is_passed_through() {
        true => (Route::MutualTls, None),
        false => (Route::Plaintext, None),
    }
}
