//! What policy judges of a connection, and what it says.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{self, Connection, Reports, Verdict};
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::observe::Parties;
use crate::pod::Pod;

/// The facts that policy judges, fixed for the life of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) pod: Arc<Pod>,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) principal: Option<SpiffeId>,
}

impl Facts {
    /// What policy says of this connection under `snapshot`. A pod that is unknown there is denied.
    pub(crate) fn judge(&self, snapshot: &Snapshot) -> Verdict {
        let workload = self.pod.workload(snapshot);
        decide(snapshot, workload.as_deref(), &self.connection())
    }

    /// What policies say of it that enforce nothing.
    pub(crate) fn report(&self, snapshot: &Snapshot) -> Reports {
        let workload = self.pod.workload(snapshot);
        workload.map_or_else(Reports::default, |workload| {
            policy::report(&snapshot.policies_for(&workload), &self.connection())
        })
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            source: self.source,
            destination: self.destination,
            principal: self.principal.as_ref(),
        }
    }
}

/// What policy says under `snapshot` of a connection between these parties: the same as `Facts::judge` where
/// the destination is a pod of this node, and what the destination's node says where it is not.
pub fn judge(snapshot: &Snapshot, parties: &Parties) -> Verdict {
    let (source, destination) = (&parties.source, &parties.destination);
    let then = destination.workload.as_ref();
    let now = then.and_then(|workload| snapshot.workload(&workload.uid));
    let connection = Connection {
        source: source.address,
        destination: destination.address,
        principal: source.identity.as_ref(),
    };
    decide(snapshot, now.map(Arc::as_ref), &connection)
}

fn decide(
    snapshot: &Snapshot,
    workload: Option<&Workload>,
    connection: &Connection<'_>,
) -> Verdict {
    match workload {
        Some(workload) => policy::decide(&snapshot.policies_for(workload), connection),
        None => Verdict::unknown_destination(),
    }
}
