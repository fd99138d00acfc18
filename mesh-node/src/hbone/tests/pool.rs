//! The pool: which tunnels streams share, and which are replaced.

use super::*;

/// Dials peers that answer every stream with `status` and, if that is 200, echo it.
#[derive(Clone)]
struct Dialler {
    dialled: Count,
    drain: Drain,
    status: u16,
    expires: SystemTime,
}

impl Dialler {
    fn new(status: u16) -> Self {
        Self {
            dialled: Count::default(),
            drain: Drain::new(),
            status,
            expires: SystemTime::now() + FAR,
        }
    }

    /// Dials peers that do not drain when those of this one do.
    fn fresh(&self) -> Self {
        Self {
            drain: Drain::new(),
            ..self.clone()
        }
    }

    async fn dial(&self) -> Result<Tunnel, OpenError> {
        self.dialled.up();
        let (near, far) = authenticated_pair(Buffers::Usual).await;
        let status = self.status;
        serve_until(
            far,
            SystemTime::now() + FAR,
            &self.drain,
            move |incoming| async move {
                match status {
                    200 => serve_echo(incoming).await,
                    status => incoming.refuse(status),
                }
            },
        );
        Tunnel::establish(near, self.expires)
    }

    fn count(&self) -> usize {
        self.dialled.get()
    }
}

/// A pool, and the number of its tunnels.
fn pool() -> (Pool, OpenTunnels) {
    let open = OpenTunnels::default();
    (Pool::new(open.clone()), open)
}

async fn opened(pool: &Pool, key: &Key, dialler: &Dialler) -> (Application, Lease) {
    let (stream, lease) = pool.open(key, &request(), || dialler.dial()).await.unwrap();
    (Application::on(stream), lease)
}

#[test]
fn streams_share_a_tunnel_and_carry_their_own_bytes() {
    on_worker(async {
        let ((pool, open), dialler) = (pool(), Dialler::new(200));
        let key = key("10.0.0.1:15008");
        let (one, _a) = opened(&pool, &key, &dialler).await;
        let (two, _b) = opened(&pool, &key, &dialler).await;
        assert_eq!(two.echoed("two").await, "two");
        assert_eq!(one.echoed("one").await, "one");
        assert_eq!((dialler.count(), open.outbound()), (1, 1));
    });
}

#[test]
fn tunnels_are_not_shared_across_keys() {
    on_worker(async {
        let ((pool, open), dialler) = (pool(), Dialler::new(200));
        let base = key("10.0.0.1:15008");
        let keys = [
            base.clone(),
            Key {
                source: id("other"),
                ..base.clone()
            },
            Key {
                source_netns: 2,
                ..base.clone()
            },
            Key {
                expected: Arc::new([id("other")]),
                ..base.clone()
            },
            key("10.0.0.2:15008"),
        ];
        for key in &keys {
            opened(&pool, key, &dialler).await;
        }
        assert_eq!(dialler.count(), keys.len());
        pool.forget_netns(1);
        assert_eq!(
            open.outbound(),
            1,
            "only the tunnel of the other namespace stays"
        );
    });
}

#[test]
fn a_full_tunnel_is_followed_by_another() {
    on_worker(async {
        let ((pool, _), dialler) = (pool(), Dialler::new(200));
        let key = key("10.0.0.1:15008");
        let mut held = Vec::new();
        for _ in 0..STREAMS_OPENED + 1 {
            held.push(
                pool.open(&key, &request(), || dialler.dial())
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(dialler.count(), 2);
        drop(held);
        opened(&pool, &key, &dialler).await;
        assert_eq!(dialler.count(), 2, "a place given back is used again");
    });
}

#[test]
fn a_peer_that_drains_is_replaced_and_its_open_streams_go_on() {
    on_worker(async {
        let ((pool, _), dialler) = (pool(), Dialler::new(200));
        let key = key("10.0.0.1:15008");
        let (old, _a) = opened(&pool, &key, &dialler).await;
        assert_eq!(old.echoed("before").await, "before");
        dialler.drain.start();
        let fresh = dialler.fresh();
        // Whether the GOAWAY or this request comes first is open: both must end well.
        let (new, _b) = opened(&pool, &key, &fresh).await;
        assert_eq!(new.echoed("new").await, "new");
        assert_eq!(old.echoed("after").await, "after");
        let (newer, _c) = opened(&pool, &key, &fresh).await;
        assert_eq!(newer.echoed("newer").await, "newer");
        assert_eq!(dialler.count(), 2);
    });
}

#[test]
fn however_many_tunnels_are_broken_a_fresh_one_is_dialled() {
    on_worker(async {
        let ((pool, open), dialler) = (pool(), Dialler::new(200));
        let key = key("10.0.0.1:15008");
        let mut held = Vec::new();
        for _ in 0..STREAMS_OPENED * 2 + 1 {
            held.push(
                pool.open(&key, &request(), || dialler.dial())
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(open.outbound(), 3);
        // The peers die; nothing has told the pool when the next stream is asked for.
        dialler.drain.expire();
        drop(held);
        let (stream, _lease) = opened(&pool, &key, &dialler.fresh()).await;
        assert_eq!(stream.echoed("alive").await, "alive");
        assert_eq!(dialler.count(), 4);
    });
}

#[test]
fn a_refusal_is_reported_and_costs_no_tunnel() {
    on_worker(async {
        let ((pool, _), dialler) = (pool(), Dialler::new(status::UNAUTHORIZED));
        let key = key("10.0.0.1:15008");
        for _ in 0..3 {
            let refused = pool.open(&key, &request(), || dialler.dial()).await;
            assert!(
                matches!(refused, Err(OpenError::Refused(status::UNAUTHORIZED))),
                "{refused:?}"
            );
        }
        assert_eq!(dialler.count(), 1);
    });
}

#[test]
fn an_expired_certificate_opens_no_new_stream() {
    on_worker(async {
        let ((pool, open), valid) = (pool(), Dialler::new(200));
        let key = key("10.0.0.1:15008");
        let expired = Dialler {
            expires: SystemTime::now() - FAR,
            ..Dialler::new(200)
        };
        let refused = pool.open(&key, &request(), || expired.dial()).await;
        assert!(matches!(refused, Err(OpenError::Unusable)), "{refused:?}");
        assert_eq!(open.outbound(), 0);
        opened(&pool, &key, &valid).await;
        assert_eq!((expired.count(), valid.count()), (1, 1));
    });
}

#[test]
fn those_who_wait_for_one_failing_dial_share_its_error() {
    on_worker(async {
        let ((pool, _), dialled) = (pool(), Count::default());
        let (key, request) = (key("10.0.0.1:15008"), request());
        let dial = || async {
            dialled.up();
            // All the others queue up behind this one.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            Err(OpenError::Timeout("the peer is away"))
        };
        let all = (0..20).map(|_| pool.open(&key, &request, dial));
        let all = futures::future::join_all(all).await;
        assert!(
            all.iter()
                .all(|opened| matches!(opened, Err(OpenError::Timeout(_))))
        );
        assert_eq!(dialled.get(), 1);
    });
}
