//! Terminates HBONE: authenticates the peer, authorizes each stream, delivers it to the application.

use mesh_common::identity::SpiffeId;
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Mesh;
use super::admission::Place;
use super::authorize::{self, Permit, authorize};
use super::deliver::deliver;
use super::facts::Facts;
use super::relay::{self, TcpSide};
use super::serve::AGENT_PORTS;
use super::workers::Worker;
use crate::drain::Drain;
use crate::hbone::{self, Baggage, Incoming, OpenTunnel};
use crate::observe::{Flag, Outcome, Parties, Party, Record, Reporter, Security};
use crate::pod::Pod;
use crate::socket::Socket;
use crate::tls;

/// A peer completes TLS within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// One authenticated tunnel, shared by its streams.
pub(super) struct Peer {
    pod: Arc<Pod>,
    identity: SpiffeId,
    /// The tunnel's source.
    source: SocketAddr,
    /// Where the tunnel was dialled to: the pod's address and port 15008.
    local: SocketAddr,
}

/// Serves one connection accepted on a pod's HBONE port. `place` is held until the peer has
/// proven who it is.
pub(super) async fn handle(
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    tcp: Socket,
    source: SocketAddr,
    mut place: Place,
) {
    let mesh = &worker.mesh;
    let Ok(local) = tcp.get().local_addr() else {
        return;
    };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let authenticated = tokio::select! {
        authenticated = authenticate(mesh, &pod, tcp) => authenticated,
        () = place.displaced() => Err((
            Flag::Tls,
            "the peer had not proven who it is when newer ones needed its place".into(),
        )),
    };
    let (authenticated, _open) = match authenticated {
        Ok(authenticated) => authenticated,
        Err((flag, error)) => {
            let parties = Parties {
                reporter: Reporter::Destination,
                source: Party::unknown(source),
                destination: Party {
                    address: local,
                    workload: pod.workload(&mesh.state()),
                    identity: None,
                },
                hbone_address: Some(local),
                service: None,
                security: Security::None,
            };
            return mesh
                .observer
                .begin(parties)
                .end(Outcome::failed(flag, error));
        }
    };
    drop(place);
    let drain = pod.drain.clone();
    let peer = Rc::new(Peer {
        pod,
        identity: authenticated.peer.clone(),
        source,
        local,
    });
    let described = peer.clone();
    let served = hbone::serve(authenticated, &drain, move |incoming| {
        stream(worker.clone(), peer.clone(), incoming)
    });
    if let Err(why) = served.await {
        tracing::debug!(pod = %described.pod, peer = %described.identity, "tunnel ended: {why}");
    }
}

async fn authenticate(
    mesh: &Mesh,
    pod: &Arc<Pod>,
    tcp: Socket,
) -> Result<(tls::Authenticated, OpenTunnel), (Flag, String)> {
    let workload = mesh
        .workload(pod)
        .await
        .map_err(|e| (Flag::Identity, e.to_string()))?;
    let svid = mesh
        .svid(pod, &workload)
        .await
        .map_err(|e| (Flag::Identity, e.to_string()))?;
    match tokio::time::timeout(HANDSHAKE_WITHIN, tls::server(&svid, tcp)).await {
        Ok(Ok(peer)) => {
            let open = mesh.tunnels.accepted(&svid.identity, peer.group);
            Ok((peer, open))
        }
        Ok(Err(e)) => Err((Flag::Tls, e.to_string())),
        Err(_) => Err((
            Flag::Tls,
            "the peer did not finish the TLS handshake in 10 s".into(),
        )),
    }
}

/// A stream whose application is connected.
struct Admitted {
    record: Record,
    permit: Permit,
    tcp: Socket,
    stream: hbone::Stream,
    drain: Drain,
}

/// Serves one CONNECT stream.
pub(super) async fn stream(worker: Rc<Worker>, peer: Rc<Peer>, incoming: Incoming) {
    // Boxed, so that what admitting takes is let go of before the connection is relayed.
    let Some(mut admitted) = Box::pin(admit_recorded(&worker, peer, incoming)).await else {
        return;
    };
    let traffic = admitted.record.opened();
    let revoker = admitted.stream.revoker();
    let revoked = async {
        let verdict = admitted.permit.revoked().await;
        // Before the relay ends, which resets the stream without a reason.
        revoker.revoke();
        verdict
    };
    let outcome = tokio::select! {
        // First: a relay that is busy does not put it off.
        biased;
        verdict = revoked => authorize::revoked(&worker.mesh, &mut admitted.record, verdict),
        result = relay::tunnel(admitted.tcp, admitted.stream, TcpSide::Server, &traffic) => {
            match result {
                Ok(()) => Outcome::completed(),
                Err(e) => Outcome::failed(Flag::Ok, e),
            }
        }
        () = admitted.drain.expired() => drained(),
    };
    admitted.record.end(outcome);
}

fn drained() -> Outcome {
    Outcome::failed(Flag::Ok, "closed at the drain deadline")
}

/// Admits a stream; one that is refused is answered, and that recorded.
async fn admit_recorded(worker: &Worker, peer: Rc<Peer>, incoming: Incoming) -> Option<Admitted> {
    let mesh = &worker.mesh;
    let mut record = mesh.observer.begin(parties(&mesh.state(), &peer));
    let drain = peer.pod.drain.clone();
    let admitted = tokio::select! {
        admitted = admit(mesh, &peer, incoming, &mut record) => admitted,
        () = drain.expired() => Err(drained()),
    };
    match admitted {
        Ok((permit, tcp, stream)) => Some(Admitted {
            record,
            permit,
            tcp,
            stream,
            drain,
        }),
        Err(outcome) => {
            record.end(outcome);
            None
        }
    }
}

/// Who talks to whom, before the peer has said more.
fn parties(state: &Snapshot, peer: &Peer) -> Parties {
    let workload = peer.pod.workload(state);
    Parties {
        reporter: Reporter::Destination,
        source: Party {
            address: peer.source,
            workload: source_workload(state, peer),
            identity: Some(peer.identity.clone()),
        },
        destination: Party {
            address: peer.local,
            identity: workload.as_deref().map(Workload::identity),
            workload,
        },
        hbone_address: Some(peer.local),
        service: None,
        security: Security::MutualTls,
    }
}

/// The client's workload, if the address belongs to one that has the proven identity.
fn source_workload(state: &Snapshot, peer: &Peer) -> Option<Arc<Workload>> {
    let workload = state.workload_by_ip(peer.source.ip())?;
    (workload.identity() == peer.identity).then(|| workload.clone())
}

/// Judges a request, and connects to the application if policy allows it.
async fn admit(
    mesh: &Mesh,
    peer: &Peer,
    incoming: Incoming,
    record: &mut Record,
) -> Result<(Permit, Socket, hbone::Stream), Outcome> {
    let asked = match incoming.target() {
        Ok(asked) => asked,
        Err(e) => {
            incoming.refuse(hbone::status::BAD_REQUEST);
            return Err(Outcome::failed(Flag::Http2, e));
        }
    };
    let client = asked.client(peer.source);
    record.traced(asked.trace);
    record.parties_mut().source.address = client;
    if asked.authority.ip() != peer.local.ip() || AGENT_PORTS.contains(&asked.authority.port()) {
        incoming.refuse(hbone::status::BAD_REQUEST);
        return Err(Outcome::failed(
            Flag::Http2,
            format!(
                "CONNECT to {} on a tunnel to {}: a tunnel leads only to the applications of its pod",
                asked.authority,
                peer.local.ip()
            ),
        ));
    }
    record.parties_mut().destination.address = asked.authority;
    let facts = Facts {
        pod: peer.pod.clone(),
        source: client,
        destination: asked.authority,
        principal: Some(peer.identity.clone()),
    };
    record.reported(facts.report(&mesh.state()));
    let permit = match authorize(&mesh.registry, &mesh.snapshot, facts) {
        Ok(permit) => permit,
        Err(verdict) => {
            incoming.refuse(hbone::status::UNAUTHORIZED);
            return Err(authorize::denied(mesh, record, verdict));
        }
    };
    record.decided(permit.verdict().clone());
    let delivered = tokio::select! {
        biased;
        verdict = permit.revoked() => {
            incoming.refuse(hbone::status::UNAUTHORIZED);
            return Err(authorize::denied(mesh, record, verdict));
        }
        delivered = deliver(&mesh.datapath, &permit, client) => delivered,
        why = incoming.given_up() => {
            let error = format!("the peer left before the application answered: {why}");
            return Err(Outcome::failed(Flag::Http2, error));
        }
    };
    let tcp = match delivered {
        Ok(tcp) => tcp,
        Err(e) => {
            incoming.refuse(hbone::status::UNAVAILABLE);
            let error = format!("cannot reach the application at {}: {e}", asked.authority);
            return Err(Outcome::failed(Flag::Connect, error));
        }
    };
    let baggage = peer
        .pod
        .workload(&mesh.state())
        .and_then(|w| Baggage::of(&w).header());
    let Some(stream) = incoming.accept(baggage.as_deref()) else {
        tcp.reset();
        return Err(Outcome::failed(
            Flag::Http2,
            "the peer left before it was answered",
        ));
    };
    Ok((permit, tcp, stream))
}
