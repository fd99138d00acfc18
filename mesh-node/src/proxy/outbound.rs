//! Connections that applications open: identified, then tunnelled or passed on.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::identify::{Captured, NoRoute, Route, route};
use super::loads::Counted;
use super::relay::{self, TcpSide};
use super::serve::AGENT_PORTS;
use super::workers::Worker;
use super::{Mesh, denial, dial};
use crate::drain::Drain;
use crate::hbone::{self, Baggage, ConnectRequest, Key, OpenError, TraceParent, Tunnel};
use crate::observe::{Flag, Outcome, Parties, Party, Record, Reporter, Security};
use crate::pod::Pod;
use crate::socket::{CongestionControl, Socket};
use crate::state::Svid;
use crate::tls;

/// Endpoints of a service tried before the connection is given up.
const ATTEMPTS: usize = 3;
/// TLS and the HTTP/2 preface with a peer are done within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A failed attempt: how it is flagged, what to say, and whether another endpoint may do.
struct Failed {
    flag: Flag,
    error: String,
    try_another: bool,
}

impl Failed {
    /// No other endpoint would do.
    fn for_good(flag: Flag, error: impl std::fmt::Display) -> Self {
        Self {
            flag,
            error: error.to_string(),
            try_another: false,
        }
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        let (flag, try_another) = match &error {
            OpenError::Dial(..) | OpenError::Timeout(_) => (Flag::Connect, true),
            OpenError::Tls(_) => (Flag::Tls, true),
            OpenError::Tunnel(_) | OpenError::Reset(_) | OpenError::Unusable => (Flag::Http2, true),
            OpenError::Refused(hbone::status::UNAUTHORIZED) => (Flag::Denied, false),
            OpenError::Refused(status) => (Flag::Connect, *status == hbone::status::UNAVAILABLE),
        };
        Self {
            flag,
            error: error.to_string(),
            try_another,
        }
    }
}

/// Serves one connection accepted on a pod's outbound port.
pub(super) async fn handle(worker: Rc<Worker>, pod: Arc<Pod>, tcp: Socket, client: SocketAddr) {
    // Boxed, so that what opening takes is let go of before the connection is relayed.
    let Some(mut opened) = Box::pin(open_captured(&worker, pod, tcp, client)).await else {
        return;
    };
    let traffic = opened.record.opened();
    let (tcp, next, drain) = (opened.tcp, opened.next, opened.drain);
    let relaying = async {
        match next {
            Next::Tunnel(stream, _lease, _load) => {
                relay::tunnel(tcp, stream, TcpSide::Client, &traffic).await
            }
            Next::Clear(server) => Box::pin(relay::tcp(tcp, server, &traffic)).await,
        }
    };
    let outcome = tokio::select! {
        result = relaying => result.map_err(Some),
        () = drain.expired() => Err(None),
    };
    let outcome = match outcome {
        Ok(()) => Outcome::completed(),
        Err(Some(e)) => Box::pin(denial::broken(&worker.mesh, &mut opened.record, e)).await,
        Err(None) => drained(),
    };
    opened.record.end(outcome);
}

/// A connection that can be relayed.
struct Opened {
    record: Record,
    tcp: Socket,
    next: Next,
    drain: Drain,
}

/// What an application's connection is relayed to.
enum Next {
    /// A stream, its place on its tunnel, and the load it counts as.
    Tunnel(hbone::Stream, hbone::Lease, Option<Counted>),
    /// A connection in the clear.
    Clear(Socket),
}

fn drained() -> Outcome {
    Outcome::failed(Flag::Ok, "closed at the drain deadline")
}

/// Opens the way for a captured connection; when there is none it is reset, and that recorded.
async fn open_captured(
    worker: &Worker,
    pod: Arc<Pod>,
    tcp: Socket,
    client: SocketAddr,
) -> Option<Opened> {
    let mesh = &worker.mesh;
    let Some(destination) = original_destination(mesh, &tcp).await else {
        tracing::debug!(%pod, %client, "a connection to the capture port itself was refused");
        tcp.reset();
        return None;
    };
    let captured = Captured {
        pod,
        tcp,
        client,
        destination,
    };
    let mut record = mesh.observer.begin(Parties {
        reporter: Reporter::Source,
        source: Party::unknown(client),
        destination: Party::unknown(destination),
        hbone_address: None,
        service: None,
        security: Security::None,
    });
    let drain = captured.pod.drain.clone();
    let next = tokio::select! {
        next = open(worker, &captured, &mut record) => next.map_err(Some),
        () = drain.expired() => Err(None),
    };
    match next {
        Ok(next) => Some(Opened {
            record,
            tcp: captured.tcp,
            next,
            drain,
        }),
        Err(failed) => {
            captured.tcp.reset();
            let outcome = match failed {
                Some(failed) => {
                    if failed.flag == Flag::Denied {
                        denial::refused(mesh, &mut record).await;
                    }
                    Outcome::failed(failed.flag, failed.error)
                }
                None => drained(),
            };
            record.end(outcome);
            None
        }
    }
}

/// The kernel hands the destination over just before or just after accept() returns.
async fn original_destination(mesh: &Mesh, tcp: &Socket) -> Option<SocketAddr> {
    for _ in 0..10 {
        match mesh.datapath.original_destination(tcp.get().as_fd()) {
            Ok(Some(address)) if !AGENT_PORTS.contains(&address.port()) => return Some(address),
            Ok(Some(_)) => return None,
            Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(e) => {
                tracing::error!("cannot read a connection's original destination: {e}");
                return None;
            }
        }
    }
    None
}

/// Finds the next hop and opens a connection to it; of a service, to another endpoint if one fails.
async fn open(worker: &Worker, captured: &Captured, record: &mut Record) -> Result<Next, Failed> {
    let mesh = &worker.mesh;
    let pod = &captured.pod;
    let workload = mesh
        .workload(pod)
        .await
        .map_err(|e| Failed::for_good(Flag::Identity, e))?;
    record.parties_mut().source.identity = Some(workload.identity());
    record.parties_mut().source.workload = Some(workload.clone());

    let trace = TraceParent::random();
    let mut tried = Vec::new();
    let mut last: Option<Failed> = None;
    while tried.len() < ATTEMPTS {
        let next = route(
            &mesh.state(),
            &workload,
            captured.destination,
            &mesh.loads,
            &tried,
        );
        let route = match (next, last.take()) {
            (Ok(route), _) => route,
            // No further endpoint: what the last one said tells more.
            (Err(NoRoute::NoEndpoint(..)), Some(failed)) => return Err(failed),
            (Err(e), _) => return Err(Failed::for_good(Flag::Connect, e)),
        };
        describe(record, &route, &trace);
        let load = route.workload().map(|w| mesh.loads.count(&w.uid));
        let failed = match &route {
            Route::Passthrough { address, .. } => match passthrough(pod, *address).await {
                Ok(server) => return Ok(Next::Clear(server)),
                Err(e) => Failed {
                    flag: Flag::Connect,
                    error: format!("cannot reach {address}: {e}"),
                    try_another: true,
                },
            },
            Route::Tunnel { .. } => {
                let client = captured.client;
                match open_tunnel(worker, pod, &workload, &route, client, &trace).await {
                    Ok((stream, lease)) => {
                        // The address that was dialled; a service's is not the endpoint's.
                        mesh.direct.consider(pod, captured.destination);
                        return Ok(Next::Tunnel(stream, lease, load));
                    }
                    Err(failed) => failed,
                }
            }
        };
        match (failed.try_another, route.service(), route.workload()) {
            (true, Some(_), Some(endpoint)) => tried.push(endpoint.uid.clone()),
            _ => return Err(failed),
        }
        last = Some(failed);
    }
    Err(last.unwrap_or_else(|| Failed::for_good(Flag::Connect, "no attempt was made")))
}

fn describe(record: &mut Record, route: &Route, trace: &TraceParent) {
    let parties = record.parties_mut();
    parties.service = route.service().cloned();
    parties.destination.address = route.address();
    parties.destination.workload = route.workload().cloned();
    parties.destination.identity = None;
    parties.hbone_address = None;
    parties.security = Security::None;
    if let Route::Tunnel {
        workload,
        authority,
        ..
    } = route
    {
        parties.destination.identity = Some(workload.identity());
        parties.hbone_address = Some(SocketAddr::new(authority.ip(), hbone::PORT));
        parties.security = Security::MutualTls;
        record.traced(Some(*trace));
    }
}

async fn passthrough(pod: &Pod, address: SocketAddr) -> std::io::Result<Socket> {
    dial::connect(dial::socket(pod, address)?, address).await
}

async fn open_tunnel(
    worker: &Worker,
    pod: &Arc<Pod>,
    source: &mesh_common::workload::Workload,
    route: &Route,
    client: SocketAddr,
    trace: &TraceParent,
) -> Result<(hbone::Stream, hbone::Lease), Failed> {
    let Route::Tunnel {
        workload,
        authority,
        service,
    } = route
    else {
        return Err(Failed {
            flag: Flag::Connect,
            error: format!("{} needs no tunnel", route.address()),
            try_another: false,
        });
    };
    let svid = worker.mesh.svid(pod, source).await.map_err(|e| Failed {
        flag: Flag::Identity,
        error: e.to_string(),
        try_another: false,
    })?;
    let key = Key {
        source: svid.identity.clone(),
        source_netns: pod.netns.cookie(),
        expected: Route::expected(workload, service.as_ref()),
        destination: SocketAddr::new(authority.ip(), hbone::PORT),
    };
    let asked = ConnectRequest {
        authority: *authority,
        forwarded_for: Some(client),
        trace: Some(*trace),
    };
    let baggage = Baggage::of(source);
    let host = service.as_ref().map(|s| &*s.hostname);
    let request = asked.fields(&baggage, host);
    let congestion = &worker.tuning.congestion;
    let opened = worker
        .pool
        .open(&key, &request, || dial_tunnel(pod, &svid, &key, congestion))
        .await;
    Ok(opened?)
}

async fn dial_tunnel(
    pod: &Pod,
    svid: &Svid,
    key: &Key,
    congestion: &CongestionControl,
) -> Result<Tunnel, OpenError> {
    let to = key.destination;
    let unreachable = |e| OpenError::Dial(to, Arc::new(e));
    let socket = dial::socket(pod, to).map_err(unreachable)?;
    congestion.apply(&socket).map_err(unreachable)?;
    let tcp = dial::connect(socket, to).await.map_err(unreachable)?;
    let handshake = async {
        let peer = tls::client(svid, key.expected.clone(), tcp)
            .await
            .map_err(|e| OpenError::Tls(Arc::new(e)))?;
        Tunnel::establish(peer, svid.not_after)
    };
    match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(tunnel) => tunnel,
        Err(_) => Err(OpenError::Timeout(
            "the peer did not finish the handshake in 10 s",
        )),
    }
}
