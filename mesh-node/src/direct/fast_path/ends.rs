//! The two ends of a connection, as the state knows them.

use mesh_common::policy::Verdict;
use mesh_common::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::Arc;

use super::Member;
use crate::direct::connections::{Ends, Live};
use crate::direct::decide::{self, Denied};
use crate::direct::reaper::Flow;
use crate::observe::Party;
use crate::pod::Pod;

/// Who the ends are, and what the state says of the connection; pods that are unknown are denied.
pub(super) fn describe(
    state: &Snapshot,
    members: &HashMap<u64, Member>,
    flow: &Flow,
    live: Option<&Live>,
) -> Ends {
    let [client, server] = [flow.client, flow.server].map(|c| members.get(&c).map(|m| &m.pod));
    let party = |pod: Option<&Arc<Pod>>, address| {
        let workload = pod.and_then(|pod| pod.workload(state));
        Party {
            address,
            identity: workload.as_ref().map(|workload| workload.identity()),
            workload,
        }
    };
    let verdict = match (client, server) {
        (Some(client), Some(server)) => {
            let identity = live.and_then(|live| live.identity.as_ref());
            let addresses = (flow.source, flow.destination);
            decide::judge(state, client, server, identity, addresses)
        }
        (None, _) => Err(Denied::Identity),
        (_, None) => Err(Denied::Policy(Verdict::unknown_destination())),
    };
    Ends {
        client: party(client, flow.source),
        server: party(server, flow.destination),
        verdict,
    }
}
