//! What flows, and what stops it.

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn what_one_writes_the_other_reads_and_both_count_it() {
    on_worker(async {
        let mesh = Mesh::new();
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
fn many_streams_without_room_all_go_on() {
    on_worker(async {
        let mesh = Mesh::narrow();
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
