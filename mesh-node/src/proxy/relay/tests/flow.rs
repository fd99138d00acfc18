//! What flows, and what stops it.

use super::*;

const MIB: usize = 1 << 20;
/// The receive window of one stream.
const WINDOW: usize = 4 * MIB;

#[test]
fn what_one_writes_the_other_reads_and_both_count_it() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        let (client, server) = mesh.connect().await.ends();
        for places in [0..1, 1..16_375, 16_375..16_376, 16_376..(3 * MIB + 5)] {
            let piece = content(1, places.clone());
            let writing = client.application.write_all(&piece);
            let reading = expect(&server.application, 1, places);
            tokio::join!(async { writing.await.unwrap() }, reading);
        }
        server
            .application
            .write_all(&content(2, 0..70_000))
            .await
            .unwrap();
        expect(&client.application, 2, 0..70_000).await;
        client.application.finish().unwrap();
        assert_eq!(
            read_on(&server.application, 1, 3 * MIB + 5).await.unwrap(),
            3 * MIB + 5
        );
        server.application.finish().unwrap();
        assert_eq!(
            read_on(&client.application, 2, 70_000).await.unwrap(),
            70_000
        );
        for end in [client, server] {
            end.relay.await.unwrap().unwrap();
            assert_eq!(end.traffic.counted(), (3 * MIB as u64 + 5, 70_000));
        }
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_and_nobody_else() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        let (client, server) = mesh.connect().await.ends();
        let taken = write_until_stuck(&client.application, 1).await;
        // The window, and the kernel's buffers: of a connection at each side, and the tunnel's.
        assert!(taken >= WINDOW, "{taken}");
        assert!(taken < WINDOW + MIB, "{taken}");
        // Others on the same tunnel go on, also the other direction of this one.
        let (other_client, other_server) = mesh.connect().await.ends();
        assert_eq!(mesh.wires.borrow().len(), 1, "they share a tunnel");
        for (from, to) in [
            (&other_client, &other_server),
            (&other_server, &other_client),
            (&server, &client),
        ] {
            let piece = content(2, 0..MIB);
            let writing = from.application.write_all(&piece);
            let reading = expect(&to.application, 2, 0..MIB);
            tokio::join!(async { writing.await.unwrap() }, reading);
        }
        // The window comes back with what is read: much more than one goes through.
        let writing = async {
            let rest = content(1, taken..taken + 3 * WINDOW);
            client.application.write_all(&rest).await.unwrap();
            client.application.finish().unwrap();
        };
        let reading = read_on(&server.application, 1, 0);
        let ((), all) = tokio::join!(writing, reading);
        assert_eq!(all.unwrap(), taken + 3 * WINDOW);
    });
}

#[test]
fn a_stream_that_is_dropped_gives_its_window_back() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        // Much more in all than the window of the tunnel.
        for round in 0..12 {
            let (client, server) = mesh.connect().await.ends();
            let taken = write_until_stuck(&client.application, round).await;
            assert!(taken >= WINDOW, "round {round}: {taken}");
            match round % 3 {
                // The server's relay learns it from its application, from the peer, or is dropped.
                0 => server.application.reset(),
                1 => client.application.reset(),
                _ => server.relay.abort(),
            }
            drop(client.relay.await);
        }
        assert_eq!(mesh.wires.borrow().len(), 1, "all of them shared a tunnel");
    });
}

#[test]
fn many_streams_without_room_all_go_on() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Small, Buffers::Usual);
        let mut connections = Vec::new();
        for _ in 0..40 {
            connections.push(mesh.connect().await);
        }
        assert_eq!(mesh.wires.borrow().len(), 1, "they share a tunnel");
        let all = connections
            .into_iter()
            .enumerate()
            .map(|(stream, connection)| async move {
                let (client, server) = connection.ends();
                let size = 600_000 + stream;
                let piece = content(stream, 0..size);
                let sending = async {
                    client.application.write_all(&piece).await.unwrap();
                    client.application.finish().unwrap();
                    read_on(&client.application, stream + 1, 0).await.unwrap()
                };
                let answer = content(stream + 1, 0..size);
                let answering = async {
                    server.application.write_all(&answer).await.unwrap();
                    server.application.finish().unwrap();
                    read_on(&server.application, stream, 0).await.unwrap()
                };
                assert_eq!(tokio::join!(sending, answering), (size, size));
                client.relay.await.unwrap().unwrap();
                server.relay.await.unwrap().unwrap();
            });
        futures::future::join_all(all).await;
    });
}

#[test]
fn urgent_data_does_not_stop_what_follows_it() {
    on_worker(async {
        let mesh = Mesh::new(Buffers::Usual, Buffers::Small);
        let (client, server) = mesh.connect().await.ends();
        let application = SockRef::from(client.application.get());
        for _ in 0..10 {
            application.send(b"before").unwrap();
            application.send_out_of_band(b"!").unwrap();
            application.send(b"after").unwrap();
            let (mut text, mut buffer) = (Vec::new(), [0; 64]);
            while text != b"beforeafter" {
                let read = server.application.read(&mut buffer).await.unwrap();
                text.extend_from_slice(&buffer[..read]);
            }
        }
    });
}

#[test]
fn streams_that_always_have_more_to_send_all_go_on() {
    on_worker(async {
        for buffers in [
            (Buffers::Small, Buffers::Usual),
            (Buffers::Usual, Buffers::Usual),
        ] {
            let mesh = Mesh::new(buffers.0, buffers.1);
            let mut writing = Vec::new();
            let mut reading = Vec::new();
            for _ in 0..40 {
                let (client, server) = mesh.connect().await.ends();
                writing.push(async move {
                    let piece = vec![0; MIB];
                    loop {
                        client.application.write_all(&piece).await.unwrap();
                    }
                });
                reading.push(async move {
                    let mut place = vec![0; MIB];
                    let mut read = 0;
                    while read < 2 * WINDOW {
                        read += server.application.read(&mut place).await.unwrap();
                    }
                    // It reads on, so that nobody waits for it.
                    let rest = spawn_local(async move {
                        while server
                            .application
                            .read(&mut place)
                            .await
                            .is_ok_and(|n| n > 0)
                        {}
                    });
                    AbortOnDrop(rest)
                });
            }
            assert_eq!(mesh.wires.borrow().len(), 1, "they share a tunnel");
            let writing = futures::future::join_all(writing);
            tokio::select! {
                _ = writing => unreachable!("it never ends"),
                _ = futures::future::join_all(reading) => {}
            }
        }
    });
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
