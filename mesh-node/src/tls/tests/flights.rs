//! What arrives together with the end of a handshake, in every split.

use super::*;

const DATA: [&[u8]; 3] = [b"early ", b"", b"and unread"];
const ALL: &[u8] = b"early and unread";

/// Sends `bytes` in these pieces, each only once `ours` has read the one before.
async fn deliver(socket: &Socket, reader: &std::net::TcpStream, ours: &Ours, pieces: &[&[u8]]) {
    for piece in pieces {
        socket.write_all(piece).await.unwrap();
        while !ours.is_finished() && rustix::io::ioctl_fionread(reader).unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// All application data that came for an end of ours, whenever it did.
fn received(ours: Authenticated) -> (Vec<u8>, Session) {
    let (mut data, mut rest, mut session) = (ours.early, ours.unread, ours.session);
    // Then there is no more.
    let _ = ours.socket.get().read_to_end(&mut rest);
    data.extend(opened(&mut session, rest));
    (data, session)
}

struct Flight {
    ours: Ours,
    socket: Socket,
    /// The socket that ours reads from.
    reader: std::net::TcpStream,
    theirs: Connection,
    /// Theirs, with data at its end.
    bytes: Vec<u8>,
}

impl Flight {
    /// The last flight of a client, which waits to be delivered to our server.
    async fn to_our_server(after: impl FnOnce(&mut Connection)) -> Self {
        let (near, socket) = socket_pair(Buffers::Usual);
        let reader = near.get().try_clone().unwrap();
        let ours = spawn_local(async move { server(&svid("server"), near).await });
        let mut theirs = Foreign::new("client").client(true);
        shake(&mut theirs, &socket).await.unwrap();
        after(&mut theirs);
        let bytes = said(&mut theirs);
        Self {
            ours,
            socket,
            reader,
            theirs,
            bytes,
        }
    }

    /// The only flight of a server that sends data along with its handshake, to our client.
    async fn to_our_client() -> Self {
        let (near, socket) = socket_pair(Buffers::Usual);
        let reader = near.get().try_clone().unwrap();
        let ours =
            spawn_local(
                async move { client(&svid("client"), Arc::new([id("server")]), near).await },
            );
        // Only a server that asks for nothing sends data so early.
        let mut config = Foreign::new("server").server_config(false);
        config.send_half_rtt_data = true;
        let mut theirs: Connection = ServerConnection::new(Arc::new(config)).unwrap().into();
        write(&mut theirs);
        let (mut hello, mut bytes) = (vec![0; 4096], Vec::new());
        while bytes.is_empty() {
            let read = socket.read(&mut hello).await.unwrap();
            heard(&mut theirs, &hello[..read]).unwrap();
            bytes = said(&mut theirs);
        }
        Self {
            ours,
            socket,
            reader,
            theirs,
            bytes,
        }
    }

    /// Delivers the flight in pieces that end at `cuts`.
    async fn deliver(self, cuts: &[usize]) -> Result<(Authenticated, Connection), PeerError> {
        let ends = cuts.iter().copied().chain([self.bytes.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let pieces: Vec<_> = starts.zip(ends).map(|(a, b)| &self.bytes[a..b]).collect();
        deliver(&self.socket, &self.reader, &self.ours, &pieces).await;
        Ok((self.ours.await.unwrap()?, self.theirs))
    }
}

fn write(theirs: &mut Connection) {
    for data in DATA {
        theirs.writer().write_all(data).unwrap();
    }
}

fn check((ours, theirs): (Authenticated, Connection), split: &[usize]) {
    let (data, mut session) = received(ours);
    assert_eq!(data, ALL, "split at {split:?}");
    answered(&mut session, theirs);
}

/// The session goes on.
fn answered(session: &mut Session, mut theirs: Connection) {
    let mut bytes = Vec::new();
    if session.wants_key_update() {
        bytes = session.update_key().unwrap();
    }
    bytes.extend(sealed(session, b"answer"));
    assert_eq!(heard(&mut theirs, &bytes).unwrap(), b"answer");
}

#[test]
fn data_that_comes_with_the_clients_handshake_is_kept_in_every_split() {
    on_worker(async {
        let mut cut = 1;
        loop {
            let flight = Flight::to_our_server(write).await;
            if cut >= flight.bytes.len() {
                break;
            }
            check(flight.deliver(&[cut]).await.unwrap(), &[cut]);
            cut += 1;
        }
    });
}

#[test]
fn data_that_comes_with_the_servers_handshake_is_kept_in_every_split() {
    on_worker(async {
        let mut cut = 1;
        loop {
            let flight = Flight::to_our_client().await;
            let length = flight.bytes.len();
            if cut >= length {
                break;
            }
            let (ours, theirs) = finished(flight, &[cut]).await;
            check((ours, theirs), &[cut]);
            // The part that ends with Finished and the data, byte by byte.
            cut += if cut + 300 > length { 1 } else { 23 };
        }
    });
}

/// Delivers a server's flight, and the client's last one to it.
async fn finished(flight: Flight, cuts: &[usize]) -> (Authenticated, Connection) {
    let far = flight.socket.get().try_clone().unwrap();
    let (ours, mut theirs) = flight.deliver(cuts).await.unwrap();
    let mut bytes = Vec::new();
    // Then there is no more.
    let _ = (&far).read_to_end(&mut bytes);
    assert_eq!(heard(&mut theirs, &bytes).unwrap(), b"");
    assert!(!theirs.is_handshaking());
    (ours, theirs)
}

#[test]
fn data_is_kept_byte_by_byte() {
    on_worker(async {
        let flight = Flight::to_our_server(write).await;
        let cuts: Vec<_> = (1..flight.bytes.len()).collect();
        check(flight.deliver(&cuts).await.unwrap(), &[]);
        let flight = Flight::to_our_client().await;
        let cuts: Vec<_> = (1..flight.bytes.len()).collect();
        check(finished(flight, &cuts).await, &[]);
    });
}

#[test]
fn new_keys_that_are_asked_for_with_the_handshake_are_made() {
    let refresh = |theirs: &mut Connection| {
        write(theirs);
        theirs.refresh_traffic_keys().unwrap();
        theirs.writer().write_all(b", refreshed").unwrap();
    };
    on_worker(async {
        let mut cut = 1;
        loop {
            let flight = Flight::to_our_server(refresh).await;
            let length = flight.bytes.len();
            if cut >= length {
                break;
            }
            let far = flight.socket.get().try_clone().unwrap();
            let (ours, mut theirs) = flight.deliver(&[cut]).await.unwrap();
            let (data, mut session) = received(ours);
            assert_eq!(data, b"early and unread, refreshed");
            // What our end has said already.
            let mut bytes = Vec::new();
            let _ = (&far).read_to_end(&mut bytes);
            assert_eq!(heard(&mut theirs, &bytes).unwrap(), b"");
            answered(&mut session, theirs);
            cut += if cut + 150 > length { 1 } else { 101 };
        }
    });
}

#[test]
fn a_handshake_that_is_cut_off_fails() {
    on_worker(async {
        let mut cut = 0;
        loop {
            let flight = Flight::to_our_server(|_| {}).await;
            if cut >= flight.bytes.len() {
                break;
            }
            flight.socket.write_all(&flight.bytes[..cut]).await.unwrap();
            drop(flight.socket);
            let failed = flight.ours.await.unwrap();
            assert!(matches!(failed, Err(PeerError::Handshake(_))), "{failed:?}");
            cut += 17;
        }
    });
}

#[test]
fn a_changed_byte_anywhere_in_the_clients_proof_fails_the_handshake() {
    on_worker(async {
        // The first record is in the clear and says nothing.
        let mut place = 6;
        loop {
            let mut flight = Flight::to_our_server(|_| {}).await;
            if place >= flight.bytes.len() {
                break;
            }
            flight.bytes[place] ^= 0x10;
            flight.socket.write_all(&flight.bytes).await.unwrap();
            flight.socket.finish().unwrap();
            let failed = flight.ours.await.unwrap();
            assert!(matches!(failed, Err(PeerError::Handshake(_))), "{failed:?}");
            place += 19;
        }
    });
}

#[test]
fn a_handshake_without_end_is_not_collected() {
    on_worker(async {
        let (ours, socket) = our_server();
        // A ClientHello of 65,531 bytes, one in each record.
        socket
            .write_all(&[22, 3, 1, 0, 4, 1, 0, 0xff, 0xfb])
            .await
            .unwrap();
        let piece = [22, 3, 1, 0, 1, 0].repeat(1000);
        let mut sent = 0;
        while !ours.is_finished() && socket.write_all(&piece).await.is_ok() {
            sent += piece.len();
            tokio::task::yield_now().await;
            assert!(sent < 8 << 20, "it is read without end");
        }
        let failed = ours.await.unwrap();
        assert!(matches!(failed, Err(PeerError::Handshake(_))), "{failed:?}");
    });
}
