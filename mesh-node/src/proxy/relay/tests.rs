//! Relays at both ends of a tunnel, between applications that behave well and badly.

mod ends;
mod flow;
mod stress;

use socket2::SockRef;
use std::cell::RefCell;
use std::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};

use super::*;
use crate::drain::Drain;
use crate::hbone::{Baggage, ConnectRequest, Key, Lease, OpenTunnels, Pool, Tunnel, serve};
use crate::observe::{AccessLog, Metrics, Observer, Parties, Party, Reporter, Security};
use crate::tls::testing::{Buffers, Noise, authenticated_pair, id, on_worker, socket_pair};

type Relay = JoinHandle<Result<(), RelayError>>;

fn traffic() -> Arc<Traffic> {
    let log = AccessLog::open("/dev/null").unwrap();
    let address = "10.0.0.1:80".parse().unwrap();
    let mut record = Observer::new(Arc::new(Metrics::new()), log).begin(Parties {
        reporter: Reporter::Source,
        source: Party::unknown(address),
        destination: Party::unknown(address),
        hbone_address: None,
        service: None,
        security: Security::None,
    });
    record.opened()
}

/// One end of a connection: the application's socket, and the relay that serves it.
struct End {
    application: Socket,
    relay: Relay,
    traffic: Arc<Traffic>,
}

impl End {
    fn new(stream: Stream, side: TcpSide, buffers: Buffers) -> Self {
        let (near, application) = socket_pair(buffers);
        let traffic = traffic();
        let counted = traffic.clone();
        let relay = spawn_local(async move { tunnel(near, stream, side, &counted).await });
        Self {
            application,
            relay,
            traffic,
        }
    }
}

/// A client and a server that talk through a tunnel.
struct Connection {
    client: End,
    server: End,
    _lease: Lease,
}

impl Connection {
    fn ends(self) -> (End, End) {
        (self.client, self.server)
    }
}

/// Two agents.
struct Mesh {
    pool: Pool,
    key: Key,
    drain: Drain,
    accepting: UnboundedSender<End>,
    accepted: RefCell<UnboundedReceiver<End>>,
    /// The sockets of tunnels, the client's and the server's.
    wires: RefCell<Vec<(TcpStream, TcpStream)>>,
    /// Of tunnels, and of applications.
    buffers: (Buffers, Buffers),
}

impl Mesh {
    fn new(tunnels: Buffers, applications: Buffers) -> Self {
        let (accepting, accepted) = unbounded_channel();
        Self {
            pool: Pool::new(OpenTunnels::default()),
            key: Key {
                source: id("client"),
                source_netns: 1,
                expected: Arc::new([id("server")]),
                destination: "10.0.0.1:15008".parse().unwrap(),
            },
            drain: Drain::new(),
            accepting,
            accepted: RefCell::new(accepted),
            wires: RefCell::default(),
            buffers: (tunnels, applications),
        }
    }

    async fn dial(&self) -> Result<Tunnel, crate::hbone::OpenError> {
        let (client, server) = authenticated_pair(self.buffers.0).await;
        let wire = |socket: &Socket| socket.get().try_clone().unwrap();
        let wires = (wire(&client.socket), wire(&server.socket));
        self.wires.borrow_mut().push(wires);
        let (drain, accepting) = (self.drain.clone(), self.accepting.clone());
        let buffers = self.buffers.1;
        spawn_local(async move {
            let accept = |incoming: crate::hbone::Incoming| {
                let accepting = accepting.clone();
                async move {
                    if let Some(stream) = incoming.accept(None) {
                        let _ = accepting.send(End::new(stream, TcpSide::Server, buffers));
                    }
                }
            };
            let _ = serve(server, &drain, accept).await;
        });
        let until = client.until;
        Tunnel::establish(client, until)
    }

    async fn connect(&self) -> Connection {
        let asked = ConnectRequest {
            authority: "10.0.0.1:80".parse().unwrap(),
            forwarded_for: None,
            trace: None,
        };
        let fields = asked.fields(&Baggage::default(), None);
        let opened = self.pool.open(&self.key, &fields, || self.dial()).await;
        let (stream, lease) = opened.unwrap();
        Connection {
            client: End::new(stream, TcpSide::Client, self.buffers.1),
            server: poll_fn(|cx| self.accepted.borrow_mut().poll_recv(cx))
                .await
                .unwrap(),
            _lease: lease,
        }
    }

    /// Cuts the cable of every tunnel.
    fn cut(&self) {
        for (client, server) in &*self.wires.borrow() {
            for wire in [client, server] {
                let _ = wire.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// The byte at a place of a stream of its own.
fn byte(stream: usize, place: usize) -> u8 {
    (place.wrapping_mul(31) / 7 + place / 256 + stream.wrapping_mul(101)) as u8
}

fn content(stream: usize, places: std::ops::Range<usize>) -> Vec<u8> {
    places.map(|place| byte(stream, place)).collect()
}

/// Reads until the end of the stream, or its reset; checks each byte against `stream`, beginning with
/// the one at `from`, and returns where it ended.
async fn read_on(socket: &Socket, stream: usize, from: usize) -> io::Result<usize> {
    let (mut place, mut buffer) = (from, vec![0; 64 << 10]);
    loop {
        let read = socket.read(&mut buffer).await?;
        assert_eq!(&buffer[..read], content(stream, place..place + read));
        place += read;
        if read == 0 {
            return Ok(place);
        }
    }
}

/// Reads exactly the bytes of `stream` at `places`.
async fn expect(socket: &Socket, stream: usize, places: std::ops::Range<usize>) {
    let mut buffer = vec![0; 64 << 10];
    let mut place = places.start;
    while place < places.end {
        let most = buffer.len().min(places.end - place);
        let read = socket.read(&mut buffer[..most]).await.unwrap();
        assert!(read > 0, "the stream ended at {place}");
        assert_eq!(&buffer[..read], content(stream, place..place + read));
        place += read;
    }
}

/// Writes as much as is taken before all is quiet for a while, and returns how much.
async fn write_until_stuck(socket: &Socket, stream: usize) -> usize {
    let mut place = 0;
    let quiet = std::time::Duration::from_millis(300);
    loop {
        let piece = content(stream, place..place + 16_384);
        let write = poll_fn(|cx| socket.poll_write_vectored(cx, &[IoSlice::new(&piece)]));
        match tokio::time::timeout(quiet, write).await {
            Ok(written) => place += written.unwrap(),
            Err(_) => return place,
        }
    }
}

#[track_caller]
fn assert_reset<T: std::fmt::Debug>(result: &io::Result<T>) {
    let kind = result.as_ref().map_err(io::Error::kind);
    assert!(
        matches!(kind, Err(io::ErrorKind::ConnectionReset)),
        "{result:?} instead of a reset"
    );
}
