//! Pool and server against each other, without sockets.

use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::DuplexStream;

use super::*;
use crate::drain::Drain;
use crate::tls::Authenticated;

const FAR: Duration = Duration::from_secs(3600);

fn key(destination: &str) -> Key {
    let id = |s: &str| {
        format!("spiffe://cluster.local/ns/shop/sa/{s}")
            .parse()
            .unwrap()
    };
    Key {
        source: id("client"),
        source_netns: 1,
        expected: Arc::new([id("server")]),
        destination: destination.parse().unwrap(),
    }
}

fn request() -> Result<http::Request<()>, OpenError> {
    let asked = ConnectRequest {
        authority: "10.0.0.1:80".parse().unwrap(),
        forwarded_for: None,
        trace: None,
    };
    Ok(asked.to_http(&Baggage::default(), None).unwrap())
}

fn authenticated(io: DuplexStream, until: SystemTime) -> Authenticated {
    Authenticated {
        stream: Box::new(io),
        peer: key("10.0.0.1:15008").expected[0].clone(),
        until,
    }
}

/// Answers 200 and sends back what comes.
async fn echo(incoming: Incoming) {
    let Ok(Stream { mut send, mut recv }) = incoming.accept(None) else {
        return;
    };
    while let Some(Ok(data)) = recv.data().await {
        let _ = recv.flow_control().release_capacity(data.len());
        let _ = send.send_data(data, false);
    }
    let _ = send.send_data(Bytes::new(), true);
}

/// A peer that answers every stream with `status` and, if that is 200, echoes it.
async fn peer(io: DuplexStream, drain: Drain, status: StatusCode) {
    let answer = move |incoming: Incoming| async move {
        match status {
            StatusCode::OK => echo(incoming).await,
            status => incoming.refuse(status),
        }
    };
    let _ = serve(authenticated(io, SystemTime::now() + FAR), &drain, answer).await;
}

/// Dials such peers and counts them.
#[derive(Clone)]
struct Dialler {
    dialled: Arc<AtomicUsize>,
    drain: Drain,
    status: StatusCode,
    expires: SystemTime,
}

impl Dialler {
    fn new(status: StatusCode) -> Self {
        Self {
            dialled: Arc::default(),
            drain: Drain::new(),
            status,
            expires: SystemTime::now() + FAR,
        }
    }

    async fn dial(&self) -> Result<Tunnel, OpenError> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(peer(theirs, self.drain.clone(), self.status));
        let peer = authenticated(ours, SystemTime::now() + FAR);
        Tunnel::establish(peer, self.expires).await
    }

    fn count(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }
}

async fn echoed(stream: &mut Stream, text: &'static str) -> Bytes {
    stream
        .send
        .send_data(Bytes::from_static(text.as_bytes()), false)
        .unwrap();
    stream.recv.data().await.unwrap().unwrap()
}

#[tokio::test]
async fn streams_share_a_tunnel_and_carry_their_own_bytes() {
    let (pool, dialler, key) = (
        Pool::default(),
        Dialler::new(StatusCode::OK),
        key("10.0.0.1:15008"),
    );
    let (mut one, _a) = pool.open(&key, request, || dialler.dial()).await.unwrap();
    let (mut two, _b) = pool.open(&key, request, || dialler.dial()).await.unwrap();
    assert_eq!(echoed(&mut two, "two").await, "two");
    assert_eq!(echoed(&mut one, "one").await, "one");
    assert_eq!((dialler.count(), pool.tunnels()), (1, 1));
}

#[tokio::test]
async fn tunnels_are_not_shared_across_keys() {
    let (pool, dialler) = (Pool::default(), Dialler::new(StatusCode::OK));
    let base = key("10.0.0.1:15008");
    let other: mesh_common::identity::SpiffeId =
        "spiffe://cluster.local/ns/shop/sa/other".parse().unwrap();
    let keys = [
        base.clone(),
        Key {
            source: other.clone(),
            ..base.clone()
        },
        Key {
            source_netns: 2,
            ..base.clone()
        },
        Key {
            expected: Arc::new([other]),
            ..base.clone()
        },
        key("10.0.0.2:15008"),
    ];
    for key in &keys {
        pool.open(key, request, || dialler.dial()).await.unwrap();
    }
    assert_eq!(dialler.count(), keys.len());
    pool.forget_netns(1);
    assert_eq!(
        pool.tunnels(),
        1,
        "only the tunnel of the other namespace stays"
    );
}

#[tokio::test]
async fn a_full_tunnel_is_followed_by_another() {
    let (pool, dialler, key) = (
        Pool::default(),
        Dialler::new(StatusCode::OK),
        key("10.0.0.1:15008"),
    );
    let mut held = Vec::new();
    for _ in 0..STREAMS_OPENED + 1 {
        held.push(pool.open(&key, request, || dialler.dial()).await.unwrap());
    }
    assert_eq!(dialler.count(), 2);
    drop(held);
    pool.open(&key, request, || dialler.dial()).await.unwrap();
    assert_eq!(dialler.count(), 2, "a place given back is used again");
}

#[tokio::test]
async fn a_peer_that_drains_is_replaced_and_its_open_streams_go_on() {
    let (pool, dialler, key) = (
        Pool::default(),
        Dialler::new(StatusCode::OK),
        key("10.0.0.1:15008"),
    );
    let (mut old, _a) = pool.open(&key, request, || dialler.dial()).await.unwrap();
    assert_eq!(echoed(&mut old, "before").await, "before");
    dialler.drain.start();
    let fresh = Dialler {
        drain: Drain::new(),
        ..dialler.clone()
    };
    let (mut new, _b) = pool.open(&key, request, || fresh.dial()).await.unwrap();
    assert_eq!(echoed(&mut new, "new").await, "new");
    assert_eq!(echoed(&mut old, "after").await, "after");
    assert_eq!(dialler.count(), 2);
}

#[tokio::test]
async fn however_many_tunnels_are_broken_a_fresh_one_is_dialled() {
    let (pool, key) = (Pool::default(), key("10.0.0.1:15008"));
    let dialler = Dialler::new(StatusCode::OK);
    let mut held = Vec::new();
    for _ in 0..STREAMS_OPENED * 2 + 1 {
        held.push(pool.open(&key, request, || dialler.dial()).await.unwrap());
    }
    assert_eq!(pool.tunnels(), 3);
    // The peer dies; nothing has told the pool when the next stream is asked for.
    dialler.drain.expire();
    drop(held);
    let fresh = Dialler {
        drain: Drain::new(),
        ..dialler.clone()
    };
    let (mut stream, _lease) = pool.open(&key, request, || fresh.dial()).await.unwrap();
    assert_eq!(echoed(&mut stream, "alive").await, "alive");
    assert_eq!(dialler.count(), 4);
}

#[tokio::test]
async fn a_refusal_is_reported_and_costs_no_tunnel() {
    let (pool, key) = (Pool::default(), key("10.0.0.1:15008"));
    let dialler = Dialler::new(StatusCode::UNAUTHORIZED);
    for _ in 0..3 {
        let error = pool
            .open(&key, request, || dialler.dial())
            .await
            .unwrap_err();
        assert!(
            matches!(error, OpenError::Refused(StatusCode::UNAUTHORIZED)),
            "{error}"
        );
    }
    assert_eq!(dialler.count(), 1);
}

#[tokio::test]
async fn an_expired_certificate_opens_no_new_stream() {
    let (pool, key) = (Pool::default(), key("10.0.0.1:15008"));
    let expired = Dialler {
        expires: SystemTime::now() - FAR,
        ..Dialler::new(StatusCode::OK)
    };
    let valid = Dialler::new(StatusCode::OK);
    let refused = pool.open(&key, request, || expired.dial()).await;
    assert!(matches!(refused, Err(OpenError::Unusable)), "{refused:?}");
    assert_eq!(pool.tunnels(), 0);
    pool.open(&key, request, || valid.dial()).await.unwrap();
    assert_eq!((expired.count(), valid.count()), (1, 1));
}

#[tokio::test]
async fn those_who_wait_for_one_failing_dial_share_its_error() {
    let (pool, key) = (Pool::default(), key("10.0.0.1:15008"));
    let dialled = AtomicUsize::new(0);
    let dial = || async {
        dialled.fetch_add(1, Ordering::SeqCst);
        // All the others queue up behind this one.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        Err(OpenError::Timeout("the peer is away"))
    };
    let all = futures::future::join_all((0..20).map(|_| pool.open(&key, request, dial))).await;
    assert!(
        all.iter()
            .all(|opened| matches!(opened, Err(OpenError::Timeout(_))))
    );
    assert_eq!(dialled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn work_that_outlives_its_streams_does_not_pile_up() {
    let working = Arc::new(AtomicUsize::new(0));
    let counted = working.clone();
    let never_done = move |incoming: Incoming| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let _held = incoming;
            std::future::pending::<()>().await;
        }
    };
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let peer = authenticated(theirs, SystemTime::now() + FAR);
    tokio::spawn(async move { serve(peer, &Drain::new(), never_done).await });
    let (mut sender, connection) = h2::client::handshake(ours).await.unwrap();
    tokio::spawn(connection);
    let mut refused = 0;
    for _ in 0..STREAMS_ACCEPTED * 3 {
        sender = sender.ready().await.unwrap();
        let before = working.load(Ordering::SeqCst);
        let (mut response, mut send) = sender.send_request(request().unwrap(), false).unwrap();
        // Each is known to be taken or refused before it is reset: no burst for h2 to complain of.
        while working.load(Ordering::SeqCst) == before {
            tokio::select! {
                biased;
                answer = &mut response => {
                    let reason = answer.unwrap_err().reason();
                    assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM));
                    refused += 1;
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
        send.send_reset(h2::Reason::CANCEL);
    }
    assert_eq!(refused, STREAMS_ACCEPTED);
    assert_eq!(
        working.load(Ordering::SeqCst),
        2 * STREAMS_ACCEPTED as usize
    );
}

#[tokio::test]
async fn an_expired_peer_keeps_its_streams_and_opens_no_new_ones() {
    let soon = SystemTime::now() + Duration::from_secs(2);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let far_end = authenticated(theirs, soon);
    tokio::spawn(async move { serve(far_end, &Drain::new(), echo).await });
    let near_end = authenticated(ours, SystemTime::now() + FAR);
    let tunnel = Tunnel::establish(near_end, SystemTime::now() + FAR)
        .await
        .unwrap();
    let mut kept = tunnel.open(request().unwrap()).await.unwrap();
    let refused = async {
        loop {
            if let Err(e) = tunnel.open(request().unwrap()).await {
                return e;
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
    assert!(refused.unwrap().tunnel_is_stale() && SystemTime::now() >= soon);
    assert_eq!(echoed(&mut kept, "still here").await, "still here");
}

#[tokio::test]
async fn a_peer_that_has_expired_is_refused_without_waiting_for_its_goodbye() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let served = Arc::new(AtomicUsize::new(0));
    let counted = served.clone();
    let count = move |incoming: Incoming| {
        counted.fetch_add(1, Ordering::SeqCst);
        echo(incoming)
    };
    let peer = authenticated(theirs, SystemTime::now());
    let (mut sender, connection) = h2::client::handshake(ours).await.unwrap();
    // Sent before any GOAWAY can be read.
    let (response, _send) = sender.send_request(request().unwrap(), false).unwrap();
    tokio::spawn(connection);
    tokio::spawn(async move { serve(peer, &Drain::new(), count).await });
    assert!(response.await.is_err());
    assert_eq!(served.load(Ordering::SeqCst), 0);
}
