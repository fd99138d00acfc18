//! Both ends of tunnels, and an independent HTTP/2 against them, over loopback TCP and TLS.

mod pool;
mod server;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::drain::Drain;
use crate::socket::Socket;
use crate::tls::testing::{
    Buffers, FAR, authenticated_pair, id, on_worker, rustls_client, tcp_pair,
};
use crate::tls::testing::{socket_pair, svid};
use crate::tls::{self, Authenticated};

fn key(destination: &str) -> Key {
    Key {
        source: id("client"),
        source_netns: 1,
        expected: Arc::new([id("server")]),
        destination: destination.parse().unwrap(),
    }
}

fn request() -> Fields {
    let asked = ConnectRequest {
        authority: "10.0.0.1:80".parse().unwrap(),
        forwarded_for: None,
        trace: None,
    };
    asked.fields(&Baggage::default(), None)
}

/// Carries bytes between a stream and an application's connection until both directions have ended.
async fn carry(stream: Stream, application: Socket) -> Result<(), StreamError> {
    let application = Rc::new(application);
    stream.attach(application.clone(), |_| {});
    let mut reading = Reading::default();
    let (mut sent_all, mut received_all) = (false, false);
    poll_fn(|cx| {
        stream.remember(cx);
        if !received_all && let Poll::Ready(delivered) = stream.poll_deliver(cx) {
            delivered?;
            application.finish()?;
            received_all = true;
        }
        while !sent_all
            && let Poll::Ready(read) = stream.poll_send_from(cx, &application, &mut reading)
        {
            sent_all = read? == 0;
        }
        match sent_all && received_all {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

/// An application's end of a stream that is carried meanwhile.
struct Application {
    socket: Socket,
    carried: JoinHandle<Result<(), StreamError>>,
}

impl Application {
    fn on(stream: Stream) -> Self {
        let (near, socket) = socket_pair(Buffers::Usual);
        Self {
            socket,
            carried: spawn_local(carry(stream, near)),
        }
    }

    /// Sends `text` and returns as many bytes that come back.
    async fn echoed(&self, text: &str) -> String {
        self.socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; text.len()];
        let mut have = 0;
        while have < answer.len() {
            match self.socket.read(&mut answer[have..]).await.unwrap() {
                0 => break,
                read => have += read,
            }
        }
        answer.truncate(have);
        String::from_utf8(answer).unwrap()
    }
}

/// Sends back what comes.
async fn echo(stream: Stream) {
    let Application { socket, carried } = Application::on(stream);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
        if socket.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = socket.finish();
    let _ = carried.await;
}

/// Answers 200 and sends back what comes.
async fn serve_echo(incoming: Incoming) {
    if let Some(stream) = incoming.accept(None) {
        echo(stream).await;
    }
}

/// Serves a connection as if its peer's certificate ended at `until`.
fn serve_until<F>(
    peer: Authenticated,
    until: SystemTime,
    drain: &Drain,
    handle: impl Fn(Incoming) -> F + 'static,
) -> JoinHandle<Result<(), TunnelError>>
where
    F: Future<Output = ()> + 'static,
{
    let drain = drain.clone();
    spawn_local(async move { serve(Authenticated { until, ..peer }, &drain, handle).await })
}

/// A peer that is served here and speaks an HTTP/2 and a TLS that are not ours.
async fn foreign_client<F>(
    until: SystemTime,
    handle: impl Fn(Incoming) -> F + 'static,
) -> TlsStream<tokio::net::TcpStream>
where
    F: Future<Output = ()> + 'static,
{
    let (near, far) = tcp_pair(Buffers::Usual);
    let peer_address = near.peer_addr().unwrap();
    spawn_local(async move {
        let socket = Socket::from_nonblocking(far).unwrap();
        let peer = tls::server(&svid("server"), socket).await.unwrap();
        let peer = Authenticated { until, ..peer };
        let _ = serve(peer, &Drain::new(), handle).await;
    });
    let near = tokio::net::TcpStream::from_std(near).unwrap();
    TlsConnector::from(Arc::new(rustls_client("client")))
        .connect(peer_address.ip().into(), near)
        .await
        .unwrap()
}

/// What an independent client asks for.
fn foreign_request() -> http::Request<()> {
    http::Request::connect("10.0.0.1:80").body(()).unwrap()
}

/// Counts calls.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

impl Count {
    fn up(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn get(&self) -> usize {
        self.0.get()
    }
}
