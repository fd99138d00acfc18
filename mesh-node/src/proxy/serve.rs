//! A pod's three listeners and the one accept loop behind them.

use socket2::{Domain, Protocol, Socket, Type};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

use super::admission::Admission;
use super::{Mesh, inbound, outbound, plaintext};
use crate::hbone;
use crate::pod::Pod;
use crate::sys::Netns;

const OUTBOUND: u16 = 15001;
const PLAINTEXT: u16 = 15006;
/// Ports inside a pod that are the agent's, not the application's.
pub(super) const AGENT_PORTS: [u16; 3] = [OUTBOUND, PLAINTEXT, hbone::PORT];

const BACKLOG: i32 = 4096;
/// Peers of one pod that may be in the middle of proving who they are.
const UNAUTHENTICATED: usize = 1024;

/// The listening sockets of one pod, inside its network namespace.
#[derive(Debug)]
pub struct Listeners {
    /// What connect() was redirected to.
    pub outbound: TcpListener,
    /// What arrives in the clear.
    pub plaintext: TcpListener,
    /// What arrives in a tunnel.
    pub hbone: TcpListener,
}

impl Listeners {
    /// Opens the listeners in `netns`, for IPv6 and IPv4, or IPv4 alone where IPv6 is off.
    ///
    /// # Errors
    /// When a port is taken inside the pod (the error names it) or the namespace is gone.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        netns.run(|| {
            Ok(Self {
                outbound: listen(OUTBOUND)?,
                plaintext: listen(PLAINTEXT)?,
                hbone: listen(hbone::PORT)?,
            })
        })?
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on port {port}: {e}"));
    let socket = match Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false).map_err(named)?;
            prepare(&socket, (Ipv6Addr::UNSPECIFIED, port).into()).map(|()| socket)
        }
        Err(e) => Err(e),
    };
    let socket = match socket {
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
            let socket =
                Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(named)?;
            prepare(&socket, (Ipv4Addr::UNSPECIFIED, port).into()).map_err(named)?;
            socket
        }
        other => other.map_err(named)?,
    };
    TcpListener::from_std(socket.into()).map_err(named)
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // A pod enrolled again at once meets its predecessor's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

/// Accepts for `pod` until its drain starts. Must run on the data-plane runtime.
pub async fn serve_pod(mesh: Mesh, pod: Arc<Pod>, listeners: Listeners) {
    let admission = Admission::new(UNAUTHENTICATED);
    let accepting = async {
        tokio::join!(
            accept(&mesh, listeners.outbound, |tcp, from| {
                outbound::handle(mesh.clone(), pod.clone(), tcp, from)
            }),
            accept(&mesh, listeners.plaintext, |tcp, from| {
                plaintext::handle(mesh.clone(), pod.clone(), tcp, from)
            }),
            accept(&mesh, listeners.hbone, |tcp, from| {
                let place = admission.admit(from.ip());
                inbound::handle(mesh.clone(), pod.clone(), tcp, from, place)
            }),
        )
    };
    tokio::select! {
        _ = accepting => {}
        () = pod.drain.started() => {}
    }
}

/// The accept loop. One task per connection; running out of descriptors slows it down, ends nothing.
async fn accept<F>(mesh: &Mesh, listener: TcpListener, handle: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((tcp, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                mesh.connections.spawn(handle(tcp, from));
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                tracing::warn!("cannot accept a connection: {e}; trying again in 50 ms");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
