//! Connections that reach an enrolled pod in the clear: no principal, the same policy.

use mesh_common::workload::Workload;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::Mesh;
use super::authorize::{self, authorize};
use super::deliver::deliver;
use super::facts::Facts;
use super::relay;
use super::serve::AGENT_PORTS;
use super::workers::Worker;
use crate::observe::{Flag, Outcome, Parties, Party, Record, Reporter, Security};
use crate::pod::Pod;
use crate::socket::Socket;

/// Serves one connection that was steered to a pod's plaintext listener.
pub(super) async fn handle(worker: Rc<Worker>, pod: Arc<Pod>, tcp: Socket, client: SocketAddr) {
    let mesh = &worker.mesh;
    let Ok(local) = tcp.get().local_addr() else {
        return;
    };
    let destination = SocketAddr::new(local.ip().to_canonical(), local.port());
    if AGENT_PORTS.contains(&destination.port()) {
        // Delivering to one of the agent's own listeners would come back here for ever.
        tracing::debug!(%pod, %client, "a plaintext connection to port {} was refused", destination.port());
        return tcp.reset();
    }
    // A connection that arrives before the first state waits for it rather than being denied.
    let workload = mesh.workload(&pod).await.ok();
    let mut record = mesh.observer.begin(Parties {
        reporter: Reporter::Destination,
        source: Party {
            address: client,
            workload: mesh.state().workload_by_ip(client.ip()).cloned(),
            identity: None,
        },
        destination: Party {
            address: destination,
            identity: workload.as_deref().map(Workload::identity),
            workload,
        },
        hbone_address: None,
        service: None,
        security: Security::None,
    });
    let drain = pod.drain.clone();
    let outcome = tokio::select! {
        outcome = carry(mesh, pod, tcp, client, destination, &mut record) => outcome,
        () = drain.expired() => Outcome::failed(Flag::Ok, "closed at the drain deadline"),
    };
    record.end(outcome);
}

async fn carry(
    mesh: &Mesh,
    pod: Arc<Pod>,
    tcp: Socket,
    client: SocketAddr,
    destination: SocketAddr,
    record: &mut Record,
) -> Outcome {
    let facts = Facts {
        pod,
        source: client,
        destination,
        principal: None,
    };
    record.reported(facts.report(&mesh.state()));
    let permit = match authorize(&mesh.registry, &mesh.snapshot, facts) {
        Ok(permit) => permit,
        Err(verdict) => {
            tcp.reset();
            return authorize::denied(mesh, record, verdict);
        }
    };
    record.decided(permit.verdict().clone());
    let delivered = tokio::select! {
        biased;
        verdict = permit.revoked() => {
            tcp.reset();
            return authorize::denied(mesh, record, verdict);
        }
        delivered = deliver(&mesh.datapath, &permit, client) => delivered,
    };
    let server = match delivered {
        Ok(server) => server,
        Err(e) => {
            tcp.reset();
            let error = format!("cannot reach the application at {destination}: {e}");
            return Outcome::failed(Flag::Connect, error);
        }
    };
    let traffic = record.opened();
    tokio::select! {
        // First: a relay that is busy does not put it off.
        biased;
        verdict = permit.revoked() => authorize::revoked(mesh, record, verdict),
        result = relay::tcp(tcp, server, &traffic) => match result {
            Ok(()) => Outcome::completed(),
            Err(e) => Outcome::failed(Flag::Ok, e),
        },
    }
}
