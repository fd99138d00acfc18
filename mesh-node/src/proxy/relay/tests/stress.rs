//! Many connections whose applications pause at random, in a random order that is the same every time.

use super::*;

/// Lets others run for a random while: from not at all to until all sleep.
async fn pause(noise: &RefCell<Noise>) {
    let turns = noise.borrow_mut().below(12);
    match turns {
        0..8 => {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
        8..10 => {}
        _ => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
    }
}

async fn send(socket: &Socket, stream: usize, size: usize, noise: &RefCell<Noise>) {
    let mut place = 0;
    while place < size {
        let most = [10, 1000, 20_000, 300_000][noise.borrow_mut().below(4)];
        let piece = 1 + noise.borrow_mut().below(most);
        let end = (place + piece).min(size);
        socket
            .write_all(&content(stream, place..end))
            .await
            .unwrap();
        place = end;
        pause(noise).await;
    }
    socket.finish().unwrap();
}

async fn receive(socket: &Socket, stream: usize, size: usize, noise: &RefCell<Noise>) {
    let mut place = 0;
    loop {
        let most = [1, 100, 5000, 100_000][noise.borrow_mut().below(4)];
        let mut buffer = vec![0; most];
        let read = socket.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], content(stream, place..place + read));
        place += read;
        if read == 0 {
            break assert_eq!(place, size);
        }
        // Whoever reads single bytes would take for ever.
        if most == 1 && place % 64 != 0 {
            continue;
        }
        pause(noise).await;
    }
}

/// A wake-up that is lost anywhere between a socket and its task is a connection that hangs.
#[test]
fn nothing_hangs_or_changes() {
    for seed in 0..12 {
        on_worker(async {
            let noise = RefCell::new(Noise::new(seed as u64));
            let sizes = [Buffers::Usual, Buffers::Small, Buffers::SmallToRead];
            let mesh = Mesh::new(sizes[seed % 3], sizes[seed / 3 % 3]);
            let mut connections = Vec::new();
            for _ in 0..12 {
                connections.push(mesh.connect().await);
            }
            let noise = &noise;
            let all = connections
                .into_iter()
                .enumerate()
                .map(|(i, connection)| async move {
                    let (client, server) = connection.ends();
                    let (up, down) = {
                        let mut noise = noise.borrow_mut();
                        (noise.below(1 << 20), noise.below(1 << 20))
                    };
                    tokio::join!(
                        send(&client.application, i, up, noise),
                        receive(&server.application, i, up, noise),
                        send(&server.application, i + 100, down, noise),
                        receive(&client.application, i + 100, down, noise),
                    );
                    client.relay.await.unwrap().unwrap();
                    server.relay.await.unwrap().unwrap();
                });
            futures::future::join_all(all).await;
        });
    }
}

/// The same between two connections in the clear.
#[test]
fn nothing_hangs_or_changes_in_the_clear() {
    for seed in 0..12 {
        on_worker(async {
            let noise = &RefCell::new(Noise::new(seed as u64));
            let all = (0..12).map(|i| async move {
                let buffers = || match noise.borrow_mut().once_in(3) {
                    true => Buffers::Small,
                    false => Buffers::Usual,
                };
                let (client, a) = socket_pair(buffers());
                let (b, server) = socket_pair(buffers());
                let (up, down) = {
                    let mut noise = noise.borrow_mut();
                    (noise.below(1 << 20), noise.below(1 << 20))
                };
                let traffic = traffic();
                let (relayed, ..) = tokio::join!(
                    tcp(a, b, &traffic),
                    send(&client, i, up, noise),
                    receive(&server, i, up, noise),
                    send(&server, i + 100, down, noise),
                    receive(&client, i + 100, down, noise),
                );
                relayed.unwrap();
                assert_eq!(traffic.counted(), (up as u64, down as u64));
            });
            futures::future::join_all(all).await;
        });
    }
}
