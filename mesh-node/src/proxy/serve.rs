//! A pod's three listeners and the one accept loop behind them.

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

use super::admission::Admission;
use super::workers::{Worker, Workers};
use super::{dial, inbound, outbound, plaintext};
use crate::hbone;
use crate::pod::Pod;
use crate::socket::Socket;
use crate::sys::{Netns, netns_cookie, watch_listener};

const OUTBOUND: u16 = 15001;
const PLAINTEXT: u16 = 15006;
/// Ports inside a pod that are the agent's, not the application's.
pub(super) const AGENT_PORTS: [u16; 3] = [OUTBOUND, PLAINTEXT, hbone::PORT];

const BACKLOG: i32 = 4096;
/// Peers of one pod that may be in the middle of proving who they are.
const UNAUTHENTICATED: usize = 1024;

/// The listening sockets of one pod, inside its network namespace: a set for each worker that serves
/// it. The kernel spreads connections over the sets.
#[derive(Debug)]
pub struct Listeners(Vec<Set>);

#[derive(Debug)]
struct Set {
    /// What connect() was redirected to.
    outbound: TcpListener,
    /// What arrives in the clear.
    plaintext: TcpListener,
    /// What arrives in a tunnel.
    hbone: TcpListener,
}

impl Listeners {
    /// Opens the listeners in `netns`, for IPv6 and IPv4, or IPv4 alone where IPv6 is off.
    ///
    /// # Errors
    /// When a port is taken inside the pod (the error names it) or the namespace is gone.
    pub fn open(netns: &Netns, workers: &Workers) -> io::Result<Self> {
        netns.run(|| {
            let set = |_| {
                // What is accepted inherits these options.
                Ok(Set {
                    outbound: listen(OUTBOUND, dial::tune_local)?,
                    plaintext: listen(PLAINTEXT, dial::tune)?,
                    hbone: listen(hbone::PORT, |socket| {
                        dial::tune(socket);
                        // Checked when the agent started.
                        let _ = workers.tuning().congestion.apply(socket);
                    })?,
                })
            };
            let sets = (0..workers.listening()).map(set);
            Ok(Self(sets.collect::<io::Result<_>>()?))
        })?
    }

    /// Takes over the listeners of an agent before this one: what [`Listeners::share`] gave. They are served
    /// as they are, on however many workers there were: each has connections of its own waiting.
    ///
    /// # Errors
    /// These are not the three listeners of each worker in `netns`.
    pub fn adopt(sockets: Vec<OwnedFd>, netns: &Netns) -> io::Result<Self> {
        let mut sockets = sockets.into_iter();
        let mut next = |port| -> io::Result<Option<TcpListener>> {
            let Some(socket) = sockets.next() else {
                return Ok(None);
            };
            let socket = RawSocket::from(socket);
            let bound = socket.local_addr()?.as_socket().map(|at| at.port());
            let listens = socket.is_listener()? && bound == Some(port);
            if !listens || netns_cookie(&socket)? != netns.cookie() {
                let why = format!("a socket that is no listener on port {port} of the pod");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            socket.set_nonblocking(true)?;
            Ok(Some(socket.into()))
        };
        let mut sets = Vec::new();
        while let Some(outbound) = next(OUTBOUND)? {
            let missing = || io::Error::new(io::ErrorKind::InvalidData, "a listener is missing");
            sets.push(Set {
                outbound,
                plaintext: next(PLAINTEXT)?.ok_or_else(missing)?,
                hbone: next(hbone::PORT)?.ok_or_else(missing)?,
            });
        }
        match sets.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, "no listeners")),
            false => Ok(Self(sets)),
        }
    }

    /// Descriptors of the same sockets, for [`Listeners::adopt`].
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn share(&self) -> io::Result<Vec<OwnedFd>> {
        let all = self
            .0
            .iter()
            .flat_map(|set| [&set.outbound, &set.plaintext, &set.hbone]);
        all.map(|listener| listener.as_fd().try_clone_to_owned())
            .collect()
    }

    /// One socket of each kind, to which packets are steered; its set shares them.
    pub fn steered(&self) -> Option<crate::bpf::Listeners<'_>> {
        let set = self.0.first()?;
        Some(crate::bpf::Listeners {
            plaintext: set.plaintext.as_fd(),
            hbone: set.hbone.as_fd(),
        })
    }
}

fn listen(port: u16, tune: impl Fn(&RawSocket)) -> io::Result<TcpListener> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on port {port}: {e}"));
    let socket = match RawSocket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false).map_err(named)?;
            tune(&socket);
            prepare(&socket, (Ipv6Addr::UNSPECIFIED, port).into()).map(|()| socket)
        }
        Err(e) => Err(e),
    };
    let socket = match socket {
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
            let socket =
                RawSocket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(named)?;
            tune(&socket);
            prepare(&socket, (Ipv4Addr::UNSPECIFIED, port).into()).map_err(named)?;
            socket
        }
        other => other.map_err(named)?,
    };
    Ok(socket.into())
}

fn prepare(socket: &RawSocket, address: SocketAddr) -> io::Result<()> {
    // A pod enrolled again at once meets its predecessor's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // One socket for each worker.
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

/// Accepts for `pod` on the workers until its drain starts. `closed` hangs up when the last listener
/// is closed.
pub fn serve_pod(
    workers: &Workers,
    pod: &Arc<Pod>,
    listeners: Listeners,
    closed: &mpsc::Sender<Infallible>,
) {
    let admission = Admission::new(UNAUTHENTICATED);
    let jobs = listeners.0.into_iter().map(|set| {
        let (pod, admission, closed) = (pod.clone(), admission.clone(), closed.clone());
        let job = move |worker: &Rc<Worker>| {
            let worker = worker.clone();
            tokio::task::spawn_local(async move {
                serve_set(&worker, &pod, set, &admission).await;
                drop(closed);
            });
        };
        Box::new(job) as Box<_>
    });
    workers.spread(jobs.collect::<Vec<_>>().into_iter());
}

async fn serve_set(worker: &Rc<Worker>, pod: &Arc<Pod>, set: Set, admission: &Admission) {
    let accepting = async {
        tokio::join!(
            accept(worker, set.outbound, |tcp, from| {
                outbound::handle(worker.clone(), pod.clone(), tcp, from)
            }),
            accept(worker, set.plaintext, |tcp, from| {
                plaintext::handle(worker.clone(), pod.clone(), tcp, from)
            }),
            accept(worker, set.hbone, |tcp, from| {
                let place = admission.admit(from.ip());
                inbound::handle(worker.clone(), pod.clone(), tcp, from, place)
            }),
        )
    };
    tokio::select! {
        _ = accepting => {}
        () = pod.drain.started() => {}
    }
}

/// The accept loop. One task per connection; running out of descriptors slows it down, ends nothing.
async fn accept<F>(worker: &Worker, listener: TcpListener, handle: impl Fn(Socket, SocketAddr) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let listener = match watch_listener(listener) {
        Ok(listener) => listener,
        Err(e) => return tracing::error!("cannot watch a listener: {e}"),
    };
    loop {
        match poll_fn(|cx| poll_accept(cx, &listener)).await {
            Ok((tcp, from)) => {
                worker.mesh.connections.spawn_local(handle(tcp, from));
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                tracing::warn!("cannot accept a connection: {e}; trying again in 50 ms");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn poll_accept(
    cx: &mut Context<'_>,
    listener: &AsyncFd<TcpListener>,
) -> Poll<io::Result<(Socket, SocketAddr)>> {
    loop {
        let mut guard = ready!(listener.poll_read_ready(cx))?;
        match accept_now(listener.get_ref().as_fd()) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            result => return Poll::Ready(result),
        }
    }
}

fn accept_now(listener: BorrowedFd<'_>) -> io::Result<(Socket, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (accepted, from) = acceptfrom_with(listener, flags)?;
    let from: SocketAddr = from
        .and_then(|from| from.try_into().ok())
        .ok_or_else(|| io::Error::other("a connection without an address"))?;
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    Ok((Socket::from_nonblocking(accepted.into())?, from))
}
