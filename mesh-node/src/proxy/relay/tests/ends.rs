//! Every way in which a connection ends.

use std::time::Duration;

use super::*;

const MIB: usize = 1 << 20;

/// A direction that has ended leaves the other one open, whichever is first.
#[test]
fn half_closed_connections_go_on() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        for client_first in [true, false] {
            let (client, server) = mesh.connect().await.ends();
            let (first, second) = match client_first {
                true => (&client.application, &server.application),
                false => (&server.application, &client.application),
            };
            first.write_all(&content(1, 0..1000)).await.unwrap();
            first.finish().unwrap();
            assert_eq!(read_on(second, 1, 0).await.unwrap(), 1000);
            // More than a window.
            let piece = content(2, 0..6 * MIB);
            let writing = second.write_all(&piece);
            let ((), ()) = tokio::join!(
                async { writing.await.unwrap() },
                expect(first, 2, 0..6 * MIB)
            );
            second.finish().unwrap();
            assert_eq!(read_on(first, 2, 6 * MIB).await.unwrap(), 6 * MIB);
            client.relay.await.unwrap().unwrap();
            server.relay.await.unwrap().unwrap();
        }
    });
}

#[test]
fn an_end_in_the_same_segment_as_data_is_seen() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        for round in 0..200 {
            let (client, server) = mesh.connect().await.ends();
            let size = 1 + round * 37;
            client
                .application
                .write_all(&content(round, 0..size))
                .await
                .unwrap();
            client.application.finish().unwrap();
            server.application.finish().unwrap();
            assert_eq!(read_on(&server.application, round, 0).await.unwrap(), size);
            assert_eq!(read_on(&client.application, 0, 0).await.unwrap(), 0);
            client.relay.await.unwrap().unwrap();
            server.relay.await.unwrap().unwrap();
        }
    });
}

/// The states in which an application may reset its connection, as seen from its own end.
#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    AfterData,
    /// It writes, and the other end does not read.
    WritingStuck,
    /// The other end writes, and it does not read.
    ReadingStuck,
    Ended,
    /// It has sent its end, the other end writes, and it does not read.
    EndedAndReadingStuck,
    OtherEnded,
    /// It writes, and the other end has sent its end and does not read.
    OtherEndedAndWritingStuck,
}

const STATES: [State; 8] = [
    State::Idle,
    State::AfterData,
    State::WritingStuck,
    State::ReadingStuck,
    State::Ended,
    State::EndedAndReadingStuck,
    State::OtherEnded,
    State::OtherEndedAndWritingStuck,
];

impl State {
    /// Brings a connection into this state.
    async fn reach(self, own: &Socket, other: &Socket) {
        use State::*;
        if matches!(self, Ended | EndedAndReadingStuck) {
            own.finish().unwrap();
            assert_eq!(read_on(other, 0, 0).await.unwrap(), 0);
        }
        if matches!(self, OtherEnded | OtherEndedAndWritingStuck) {
            other.finish().unwrap();
            assert_eq!(read_on(own, 0, 0).await.unwrap(), 0);
        }
        match self {
            AfterData => {
                own.write_all(&content(1, 0..1000)).await.unwrap();
                expect(other, 1, 0..1000).await;
            }
            WritingStuck | OtherEndedAndWritingStuck => {
                write_until_stuck(own, 1).await;
            }
            ReadingStuck | EndedAndReadingStuck => {
                write_until_stuck(other, 1).await;
            }
            Idle | Ended | OtherEnded => {}
        }
    }
}

#[test]
fn a_reset_is_passed_on_in_every_state() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        for state in STATES {
            for by_client in [true, false] {
                let (client, server) = mesh.connect().await.ends();
                let (own, other) = match by_client {
                    true => (client, server),
                    false => (server, client),
                };
                state.reach(&own.application, &other.application).await;
                own.application.reset();
                let told = async {
                    assert!(own.relay.await.unwrap().is_err());
                    assert!(other.relay.await.unwrap().is_err());
                };
                tokio::time::timeout(Duration::from_secs(20), told)
                    .await
                    .unwrap_or_else(|_| panic!("{state:?}: the reset is not passed on"));
                // What had arrived may be read before.
                let mut buffer = vec![0; MIB];
                let told = loop {
                    match other.application.read(&mut buffer).await {
                        Ok(1..) => {}
                        told => break told,
                    }
                };
                match state {
                    // Its end came before.
                    State::Ended | State::EndedAndReadingStuck => {}
                    _ => assert_reset(&told),
                }
                assert!(SockRef::from(other.application.get()).take_error().is_ok());
                other.application.write_all(&[0; MIB]).await.unwrap_err();
            }
        }
        assert_eq!(mesh.wires.borrow().len(), 1, "all of them shared a tunnel");
    });
}

#[test]
fn a_broken_tunnel_resets_both_ends() {
    on_worker(async {
        for state in STATES {
            let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
            let (client, server) = mesh.connect().await.ends();
            state.reach(&client.application, &server.application).await;
            mesh.cut();
            for end in [client, server] {
                let failed = end.relay.await.unwrap().unwrap_err();
                assert!(
                    matches!(failed, RelayError::Stream(_)),
                    "{state:?}: {failed}"
                );
                end.application.write_all(&[0; MIB]).await.unwrap_err();
            }
        }
    });
}

/// The peer has sent all there is before its tunnel breaks: a slow reader still gets it.
#[test]
fn what_has_arrived_is_delivered_although_the_tunnel_breaks() {
    on_worker(async {
        for reader_ended in [true, false] {
            let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
            let (client, server) = mesh.connect().await.ends();
            if reader_ended {
                client.application.finish().unwrap();
                assert_eq!(read_on(&server.application, 0, 0).await.unwrap(), 0);
            }
            let size = 3 * MIB;
            server
                .application
                .write_all(&content(1, 0..size))
                .await
                .unwrap();
            server.application.finish().unwrap();
            if reader_ended {
                server.relay.await.unwrap().unwrap();
            }
            // All of it is on the client's side of the tunnel once nothing moves any more.
            tokio::time::sleep(Duration::from_millis(300)).await;
            mesh.cut();
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(read_on(&client.application, 1, 0).await.unwrap(), size);
            if reader_ended {
                client.relay.await.unwrap().unwrap();
            } else {
                // What the client would still send goes nowhere.
                client.relay.await.unwrap().unwrap_err();
            }
        }
    });
}

/// A server that drains ends the tunnel right after its last stream; the end of it may still be on its
/// way.
#[test]
fn a_tunnel_that_ends_in_peace_loses_nothing() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::SmallToRead, Buffers::Usual);
        let (client, server) = mesh.connect().await.ends();
        mesh.drain.start();
        client.application.finish().unwrap();
        assert_eq!(read_on(&server.application, 0, 0).await.unwrap(), 0);
        let size = 20 * MIB;
        let sending = async {
            let piece = content(1, 0..size);
            server.application.write_all(&piece).await.unwrap();
            server.application.finish().unwrap();
            server.relay.await.unwrap().unwrap();
        };
        let receiving = async {
            let (mut place, mut buffer) = (0, vec![0; 256 << 10]);
            loop {
                match client.application.read(&mut buffer).await.unwrap() {
                    0 => return place,
                    read => {
                        assert_eq!(&buffer[..read], content(1, place..place + read));
                        place += read;
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert_eq!(received, size);
        client.relay.await.unwrap().unwrap();
    });
}

/// The last bytes and the end come together, to an application that is gone.
#[test]
fn what_was_not_delivered_is_not_called_complete() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        for _ in 0..20 {
            let (client, server) = mesh.connect().await.ends();
            client.application.finish().unwrap();
            assert_eq!(read_on(&server.application, 0, 0).await.unwrap(), 0);
            // Nobody looks at the client's connection before the bytes come.
            let (application, relay) = (server.application, client.relay);
            application.write_all(b"last words").await.unwrap();
            application.finish().unwrap();
            client.application.reset();
            let ended = relay.await.unwrap();
            assert!(ended.is_err(), "nobody has read it");
        }
    });
}
