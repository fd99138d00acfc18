//! Connections that reach an enrolled pod in the clear: no principal, the same policy.

use mesh_common::workload::Workload;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

use super::Mesh;
use super::authorize::authorize;
use super::deliver::deliver;
use super::dial;
use super::registry::Facts;
use super::relay;
use super::serve::AGENT_PORTS;
use crate::observe::{Flag, Outcome, Parties, Party, Record, Reporter, Security};
use crate::pod::Pod;

/// Serves one connection that was steered to a pod's plaintext listener.
pub(super) async fn handle(mesh: Mesh, pod: Arc<Pod>, tcp: TcpStream, client: SocketAddr) {
    let Ok(local) = tcp.local_addr() else { return };
    let destination = SocketAddr::new(local.ip().to_canonical(), local.port());
    if AGENT_PORTS.contains(&destination.port()) {
        // Delivering to one of the agent's own listeners would come back here for ever.
        tracing::debug!(%pod, %client, "a plaintext connection to port {} was refused", destination.port());
        return dial::reset(tcp);
    }
    dial::tune(&tcp);
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
        outcome = carry(&mesh, pod, tcp, client, destination, &mut record) => outcome,
        () = drain.expired() => Outcome::failed(Flag::Ok, "closed at the drain deadline"),
    };
    record.end(outcome);
}

async fn carry(
    mesh: &Mesh,
    pod: Arc<Pod>,
    tcp: TcpStream,
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
    let permit = match authorize(&mesh.registry, &mesh.snapshot, facts) {
        Ok(permit) => permit,
        Err(verdict) => {
            dial::reset(tcp);
            let error = format!("denied by policy: {}", verdict.reason);
            record.decided(verdict);
            return Outcome::failed(Flag::Denied, error);
        }
    };
    record.decided(permit.verdict().clone());
    let server = match deliver(&mesh.datapath, &permit, client).await {
        Ok(server) => server,
        Err(e) => {
            dial::reset(tcp);
            let error = format!("cannot reach the application at {destination}: {e}");
            return Outcome::failed(Flag::Connect, error);
        }
    };
    let traffic = record.opened();
    tokio::select! {
        result = relay::tcp(tcp, server, &traffic) => match result {
            Ok(()) => Outcome::completed(),
            Err(e) => Outcome::failed(Flag::Ok, e),
        },
        verdict = permit.revoked() => {
            let error = format!("closed by a policy change: {}", verdict.reason);
            record.decided(verdict);
            Outcome::failed(Flag::Denied, error)
        }
    }
}
