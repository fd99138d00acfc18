//! Finds the sockets of direct connections in a pod's network namespace, and ends them.

use mesh_common::abi::DirectEnd;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use crate::bpf::{DirectMarks, DirectRoute};
use crate::pod::Pod;
use crate::sys::sock_diag::{SockDiag, TcpSocket};

/// A direct connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    /// Namespace cookie of the connecting pod.
    pub(super) client: u64,
    /// Namespace cookie of the accepting pod.
    pub(super) server: u64,
    /// The connecting end.
    pub(super) source: SocketAddr,
    /// The accepting end.
    pub(super) destination: SocketAddr,
}

impl Flow {
    /// What an exemption for it is granted for.
    pub(super) fn route(&self) -> DirectRoute {
        DirectRoute {
            client: self.client,
            source: self.source.ip(),
            server: self.server,
            destination: self.destination,
        }
    }
}

/// What tells the sockets.
#[derive(Debug)]
pub(super) struct Reaper {
    marks: DirectMarks,
    agent: u64,
}

impl Reaper {
    /// `agent` is the id of the agent's cgroup.
    pub(super) fn new(marks: DirectMarks, agent: u64) -> Self {
        Self { marks, agent }
    }

    /// The ends of direct connections that are in a pod.
    pub(super) fn ends(&self, pod: &Pod) -> io::Result<Vec<(Flow, DirectEnd)>> {
        let all = SockDiag::open(&pod.netns)?.connections(self.marks.as_fd())?;
        Ok(all.iter().filter_map(end).collect())
    }

    /// Ends the connecting side of those for which `doomed` holds; says how many.
    pub(super) fn cut_clients(
        &self,
        pod: &Pod,
        doomed: impl Fn(&Flow) -> bool,
    ) -> io::Result<usize> {
        self.cut(pod, |socket| {
            end(socket).is_some_and(|(flow, end)| end == DirectEnd::Client && doomed(&flow))
        })
    }

    /// Ends the accepting side of everything on this route, marked or not, but not what the agent itself
    /// accepted; says how many. A client that manipulates its own side gains nothing by that.
    pub(super) fn cut_servers(&self, pod: &Pod, route: &DirectRoute) -> io::Result<usize> {
        self.cut(pod, |socket| {
            socket.local == route.destination
                && socket.remote.ip() == route.source
                && socket.cgroup != Some(self.agent)
        })
    }

    /// Ends every socket of direct connections that is this side of one; says how many.
    pub(super) fn cut_marked(&self, pod: &Pod, side: DirectEnd) -> io::Result<usize> {
        self.cut(pod, |socket| {
            end(socket).is_some_and(|(_, end)| end == side)
        })
    }

    fn cut(&self, pod: &Pod, doomed: impl Fn(&TcpSocket) -> bool) -> io::Result<usize> {
        let sockets = SockDiag::open(&pod.netns)?;
        let mut cut = 0;
        for socket in sockets.connections(self.marks.as_fd())? {
            if doomed(&socket) && sockets.destroy(&socket)? {
                cut += 1;
            }
        }
        Ok(cut)
    }
}

fn end(socket: &TcpSocket) -> Option<(Flow, DirectEnd)> {
    let mark = socket.direct?;
    let (end, source, destination) = if mark.is_client() {
        (DirectEnd::Client, socket.local, socket.remote)
    } else {
        (DirectEnd::Server, socket.remote, socket.local)
    };
    let flow = Flow {
        client: mark.source,
        server: mark.destination,
        source,
        destination,
    };
    Some((flow, end))
}
