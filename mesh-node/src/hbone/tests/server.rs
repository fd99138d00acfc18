//! What a peer gets from the server's end, and what it does not.

use std::time::Duration;

use super::*;

#[test]
fn an_independent_client_is_served() {
    on_worker(async {
        let io = foreign_client(SystemTime::now() + FAR, serve_echo).await;
        let (mut sender, connection) = h2::client::handshake(io).await.unwrap();
        spawn_local(connection);
        for size in [1, 16_384, 3 << 20] {
            sender = sender.ready().await.unwrap();
            let (response, mut send) = sender.send_request(foreign_request(), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            let sent: Vec<u8> = (0..size).map(|i: u32| (i / 251) as u8).collect();
            let expected = sent.clone();
            let sending = async {
                let mut rest = bytes::Bytes::from(sent);
                while !rest.is_empty() {
                    send.reserve_capacity(rest.len());
                    let granted = poll_fn(|cx| send.poll_capacity(cx)).await;
                    let piece = rest.split_to(granted.unwrap().unwrap().min(rest.len()));
                    send.send_data(piece, rest.is_empty()).unwrap();
                }
            };
            let receiving = async {
                let mut received = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    received.extend_from_slice(&data);
                }
                received
            };
            let ((), received) = tokio::join!(sending, receiving);
            assert!(received == expected, "{size} bytes came back changed");
        }
    });
}

#[test]
fn work_that_outlives_its_streams_does_not_pile_up() {
    on_worker(async {
        let working = Count::default();
        let counted = working.clone();
        let never_done = move |incoming: Incoming| {
            counted.up();
            async move {
                let _held = incoming;
                std::future::pending::<()>().await;
            }
        };
        let io = foreign_client(SystemTime::now() + FAR, never_done).await;
        let (mut sender, connection) = h2::client::handshake(io).await.unwrap();
        spawn_local(connection);
        let mut refused = 0;
        for _ in 0..STREAMS_ACCEPTED * 3 {
            sender = sender.ready().await.unwrap();
            let before = working.get();
            let (mut response, mut send) = sender.send_request(foreign_request(), false).unwrap();
            // Each is known to be taken or refused before it is reset.
            while working.get() == before {
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
        assert_eq!(working.get(), 2 * STREAMS_ACCEPTED as usize);
    });
}

#[test]
fn an_expired_peer_keeps_its_streams_and_opens_no_new_ones() {
    on_worker(async {
        let soon = SystemTime::now() + Duration::from_secs(2);
        let (near, far) = authenticated_pair(Buffers::Usual).await;
        serve_until(far, soon, &Drain::new(), serve_echo);
        let tunnel = Tunnel::establish(near, SystemTime::now() + FAR).unwrap();
        let kept = Application::on(tunnel.open(&request()).await.unwrap());
        let refused = loop {
            if let Err(e) = tunnel.open(&request()).await {
                break e;
            }
        };
        assert!(refused.tunnel_is_stale(), "{refused}");
        assert!(SystemTime::now() >= soon);
        assert_eq!(kept.echoed("still here").await, "still here");
    });
}

#[test]
fn a_peer_that_has_expired_is_refused_without_waiting_for_its_goodbye() {
    on_worker(async {
        let served = Count::default();
        let counted = served.clone();
        let count = move |incoming: Incoming| {
            counted.up();
            serve_echo(incoming)
        };
        let io = foreign_client(SystemTime::now(), count).await;
        let (mut sender, connection) = h2::client::handshake(io).await.unwrap();
        // Sent before any GOAWAY can be read.
        let (response, _send) = sender.send_request(foreign_request(), false).unwrap();
        spawn_local(connection);
        assert!(response.await.is_err());
        assert_eq!(served.get(), 0);
    });
}
