//! Peers that are refused, and that are told why.

use rustls::{AlertDescription, Error};
use std::time::UNIX_EPOCH;

use super::testing::{FAR, certified};
use super::*;

/// What a foreign peer is told by ours, which must refuse it.
async fn told(ours: Ours, socket: Socket, mut theirs: Connection) -> (PeerError, Option<Error>) {
    let mut told = shake(&mut theirs, &socket).await.err();
    let _ = socket.write_all(&said(&mut theirs)).await;
    let refused = ours.await.unwrap().unwrap_err();
    let mut buffer = vec![0; 4096];
    while told.is_none()
        && let Ok(read @ 1..) = socket.read(&mut buffer).await
    {
        told = heard(&mut theirs, &buffer[..read]).err();
    }
    (refused, told)
}

fn client_told(client: Connection) -> (PeerError, Option<Error>) {
    on_worker(async move {
        let (ours, socket) = our_server();
        told(ours, socket, client).await
    })
}

fn server_told(server: Connection) -> (PeerError, Option<Error>) {
    on_worker(async move {
        let (ours, socket) = our_client();
        told(ours, socket, server).await
    })
}

#[track_caller]
fn assert_alert((refused, told): (PeerError, Option<Error>), expected: AlertDescription) {
    assert!(matches!(refused, PeerError::Handshake(_)), "{refused}");
    assert_eq!(told, Some(Error::AlertReceived(expected)), "{refused}");
}

#[test]
fn clients_that_are_refused() {
    let nobody = Foreign::new("client").client(false);
    assert_alert(client_told(nobody), AlertDescription::CertificateRequired);

    let stranger = Foreign::with(Authority::new("stranger").svid("client"));
    let stranger = client_told(stranger.client(true));
    assert_alert(stranger, AlertDescription::UnknownCA);

    let expired = certified(&["spiffe://cluster.local/ns/shop/sa/client"], UNIX_EPOCH);
    let expired = client_told(Foreign::with(expired).client(true));
    assert_alert(expired, AlertDescription::CertificateExpired);

    let elsewhere = "spiffe://elsewhere.example/ns/shop/sa/client";
    let here = "spiffe://cluster.local/ns/shop/sa/client";
    for uris in [&[elsewhere][..], &[here, elsewhere], &["https://web"], &[]] {
        let other = certified(uris, SystemTime::now() + FAR);
        let (refused, told) = client_told(Foreign::with(other).client(true));
        assert!(
            matches!(refused, PeerError::Handshake(_)),
            "{uris:?}: {refused}"
        );
        assert!(
            matches!(told, Some(Error::AlertReceived(_))),
            "{uris:?}: {told:?}"
        );
    }

    let other_protocol = Foreign {
        alpn: vec![b"http/1.1".to_vec()],
        ..Foreign::new("client")
    };
    let other_protocol = client_told(other_protocol.client(true));
    assert_alert(other_protocol, AlertDescription::NoApplicationProtocol);

    let old = Foreign {
        versions: vec![&TLS12],
        ..Foreign::new("client")
    };
    let old = client_told(old.client(true));
    assert_alert(old, AlertDescription::ProtocolVersion);

    let unspoken = Foreign {
        alpn: Vec::new(),
        ..Foreign::new("client")
    };
    let (refused, _) = client_told(unspoken.client(true));
    assert!(matches!(refused, PeerError::Alpn), "{refused}");
}

#[test]
fn servers_that_are_refused() {
    let stranger = Foreign::with(Authority::new("stranger").svid("server"));
    assert_alert(server_told(stranger.server()), AlertDescription::UnknownCA);

    let (refused, told) = server_told(Foreign::new("other").server());
    assert!(
        refused.to_string().contains("expected spiffe://"),
        "{refused}"
    );
    assert!(matches!(told, Some(Error::AlertReceived(_))), "{told:?}");

    let unspoken = Foreign {
        alpn: Vec::new(),
        ..Foreign::new("server")
    };
    let (refused, _) = server_told(unspoken.server());
    assert!(matches!(refused, PeerError::Alpn), "{refused}");
}

#[test]
fn a_peer_that_refuses_us_is_heard() {
    // It speaks only what we do not.
    let old = Foreign {
        versions: vec![&TLS12],
        ..Foreign::new("server")
    };
    let (refused, told) = server_told(old.server());
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    assert!(told.is_some());
}

#[test]
fn what_is_not_tls_is_answered_with_an_alert() {
    on_worker(async {
        for garbage in [
            &b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[0; 64],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            let (ours, socket) = our_server();
            socket.write_all(garbage).await.unwrap();
            let refused = ours.await.unwrap();
            assert!(
                matches!(refused, Err(PeerError::Handshake(_))),
                "{refused:?}"
            );
            let mut answer = [0; 7];
            assert_eq!(socket.read(&mut answer).await.unwrap(), 7);
            assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert");
        }
    });
}
