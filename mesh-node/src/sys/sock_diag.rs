//! The TCP sockets of a network namespace, as the kernel lists them, and their end by force.

use mesh_common::abi::DirectSocket;
use rustix::net::netlink::SOCK_DIAG;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::Netns;
use super::bpf::Abi;
use super::netlink::{self, ACKNOWLEDGE, DUMP, Netlink, array_at};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;

const REQUEST_STORAGES: u16 = 2;
const REQUEST_STORAGE_MAP: u16 = 1;
const STORAGES: u16 = 20;
const CGROUP: u16 = 21;
const STORAGE: u16 = 1;
const STORAGE_VALUE: u16 = 3;

/// `struct inet_diag_msg`: family, state, then the identity, then what is not read here.
const MESSAGE: usize = 72;
const IDENTITY: usize = 48;
const IDENTITY_AT: usize = 4;

/// Connections, from the first packet to the last, half open ones too: all states but the listening and the closed ones,
/// and those that only remember a connection.
const STATES: u32 = 0b1011_0011_1110;

/// A TCP connection's socket.
#[derive(Clone, Debug)]
pub struct TcpSocket {
    /// Its own end.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
    /// Its cgroup's id; none while its handshake lasts.
    pub cgroup: Option<u64>,
    /// Its mark, if it is of a direct connection.
    pub direct: Option<DirectSocket>,
    family: u8,
    /// What the kernel tells it by: addresses, ports, interface and cookie.
    identity: [u8; IDENTITY],
}

/// A way to ask for the sockets of one network namespace.
#[derive(Debug)]
pub struct SockDiag(Netlink);

impl SockDiag {
    /// Opens it. It needs `CAP_NET_ADMIN` in the namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel lacks `CONFIG_INET_DIAG`.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        netns.run(Self::here)?
    }

    fn here() -> io::Result<Self> {
        Ok(Self(Netlink::open(Some(SOCK_DIAG))?))
    }

    /// Every connection of the namespace with what `marks`, the map of [`DirectSocket`]s, has for it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connections(&self, marks: BorrowedFd<'_>) -> io::Result<Vec<TcpSocket>> {
        let map = netlink::attribute(REQUEST_STORAGE_MAP, &marks.as_raw_fd().to_ne_bytes());
        let storages = netlink::attribute(REQUEST_STORAGES, &map);
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut body = request(family, STATES, &[0; IDENTITY]);
            body.extend(&storages);
            self.0.ask(BY_FAMILY, DUMP, &body, |_, answer| {
                found.push(parse(answer)?);
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Ends a connection: this side's process gets an error, the far side a reset. False when it ended
    /// before by itself. Only this very socket can be meant, never a later one of the same addresses.
    ///
    /// # Errors
    /// The kernel refuses, or lacks `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&self, socket: &TcpSocket) -> io::Result<bool> {
        let body = request(socket.family, u32::MAX, &socket.identity);
        match self.0.ask(DESTROY, ACKNOWLEDGE, &body, |_, _| Ok(())) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Whether the kernel can list the sockets of direct connections and end them.
///
/// # Errors
/// The kernel does not answer.
pub fn can_destroy() -> io::Result<bool> {
    // No socket has this identity: where sockets can be destroyed, that is what the kernel says.
    let body = request(AF_INET, u32::MAX, &[0; IDENTITY]);
    match SockDiag::here()?
        .0
        .ask(DESTROY, ACKNOWLEDGE, &body, |_, _| Ok(()))
    {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
        Ok(()) => Ok(true),
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, identity: &[u8; IDENTITY]) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(identity);
    body
}

fn parse(answer: &[u8]) -> io::Result<TcpSocket> {
    let [family] = array_at(answer, 0)?;
    let identity: [u8; IDENTITY] = array_at(answer, IDENTITY_AT)?;
    let port = |at| Ok::<_, io::Error>(u16::from_be_bytes(array_at(&identity, at)?));
    let ip = |at| -> io::Result<IpAddr> {
        Ok(if family == AF_INET {
            Ipv4Addr::from(array_at::<4>(&identity, at)?).into()
        } else {
            Ipv6Addr::from(array_at::<16>(&identity, at)?).to_canonical()
        })
    };
    let mut socket = TcpSocket {
        local: SocketAddr::new(ip(4)?, port(0)?),
        remote: SocketAddr::new(ip(20)?, port(2)?),
        cgroup: None,
        direct: None,
        family,
        identity,
    };
    let rest = answer.get(MESSAGE..).ok_or_else(netlink::malformed)?;
    netlink::attributes(rest, |kind, value| {
        match kind {
            CGROUP => socket.cgroup = Some(u64::from_ne_bytes(array_at(value, 0)?)),
            STORAGES => socket.direct = mark(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(socket)
}

/// The one storage that was asked for.
fn mark(storages: &[u8]) -> io::Result<Option<DirectSocket>> {
    let mut mark = None;
    netlink::attributes(storages, |kind, storage| {
        if kind != STORAGE {
            return Ok(());
        }
        netlink::attributes(storage, |kind, value| {
            if kind == STORAGE_VALUE {
                let found = Abi::<DirectSocket>::from_bytes(value);
                mark = Some(found.ok_or_else(netlink::malformed)?);
            }
            Ok(())
        })
    })?;
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::attribute;
    use mesh_common::abi::DirectEnd;

    const COOKIE: u64 = 0x0102_0304_0506_0708;

    fn answer(family: u8, local: &[u8], remote: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![family, 1, 0, 0];
        bytes.extend(40_000_u16.to_be_bytes());
        bytes.extend(80_u16.to_be_bytes());
        for address in [local, remote] {
            bytes.extend(address);
            bytes.resize(bytes.len() + 16 - address.len(), 0);
        }
        bytes.extend(2_u32.to_ne_bytes());
        bytes.extend(COOKIE.to_ne_bytes());
        bytes.resize(MESSAGE, 0);
        bytes.extend(attributes.concat());
        bytes
    }

    fn marked(mark: &DirectSocket) -> Vec<u8> {
        let mut value = mark.source.to_ne_bytes().to_vec();
        value.extend(mark.destination.to_ne_bytes());
        value.extend(mark.end.to_ne_bytes());
        value.extend([0; 4]);
        let storage = [attribute(2, &[9; 4]), attribute(STORAGE_VALUE, &value)].concat();
        attribute(STORAGES, &attribute(STORAGE | 0x8000, &storage))
    }

    #[test]
    fn a_socket_is_read_with_its_cgroup_and_its_mark() {
        let mark = DirectSocket::new(7, 8, DirectEnd::Client);
        let cgroup = attribute(CGROUP, &77_u64.to_ne_bytes());
        let bytes = answer(
            AF_INET,
            &[10, 0, 0, 1],
            &[10, 0, 0, 2],
            &[cgroup, marked(&mark)],
        );
        let socket = parse(&bytes).unwrap();
        assert_eq!(socket.local, "10.0.0.1:40000".parse().unwrap());
        assert_eq!(socket.remote, "10.0.0.2:80".parse().unwrap());
        assert_eq!((socket.cgroup, socket.direct), (Some(77), Some(mark)));
        assert_eq!(socket.identity[40..], COOKIE.to_ne_bytes());
        let mapped = |last| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
        let socket = parse(&answer(AF_INET6, &mapped(1), &mapped(2), &[])).unwrap();
        assert_eq!(socket.local, "10.0.0.1:40000".parse().unwrap());
        assert_eq!((socket.cgroup, socket.direct), (None, None));
    }

    #[test]
    fn truncated_answers_are_refused() {
        let mark = DirectSocket::new(7, 8, DirectEnd::Server);
        let whole = answer(AF_INET6, &[1; 16], &[2; 16], &[marked(&mark)]);
        assert_eq!(parse(&whole).unwrap().direct, Some(mark));
        for cut in 0..whole.len() {
            let unmarked = parse(&whole[..cut]).is_ok_and(|socket| socket.direct.is_none());
            assert_eq!(unmarked, cut == MESSAGE, "{cut} bytes");
        }
        let short = attribute(
            STORAGES,
            &attribute(STORAGE, &attribute(STORAGE_VALUE, &[0; 8])),
        );
        assert!(parse(&answer(AF_INET, &[0; 4], &[0; 4], &[short])).is_err());
    }
}
