//! Netlink: one request, its answers, and the fields in them.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// A kind of attribute, without the flags for nesting and byte order.
const ATTRIBUTE_KIND: u16 = 0x3fff;
/// Longer than any answer of the kernel's, bytes.
const BUFFER: usize = 64 * 1024;

/// Request flags.
pub(super) const REQUEST: u16 = 1;
/// The kernel says when it is done, and how it went.
pub(super) const ACKNOWLEDGE: u16 = 4;
/// Everything there is.
pub(super) const DUMP: u16 = 0x300;

/// A netlink socket, of the network namespace in which it was made.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// A socket in the current thread's network namespace.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        Self::listen(protocol, 0)
    }

    /// The same, which is also told what the kernel tells these groups.
    pub(super) fn listen(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Waits until the groups are told something.
    pub(super) fn wait(&self) -> io::Result<()> {
        match recv(&self.0, &mut vec![0; BUFFER][..], RecvFlags::empty()) {
            // More was told than there was room for: that is news as well.
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Its descriptor.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends one request and hands each answer (kind and body) to `each`, until the last.
    ///
    /// # Errors
    /// What the kernel answered, or `each`; an answer that is malformed.
    pub(super) fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((flags | REQUEST).to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        send(&self.0, &request, SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (_, received) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let answers = buffer.get(..received).ok_or_else(malformed)?;
            if parse(answers, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Reads one datagram; true when it has the last answer.
pub(super) fn parse(
    mut bytes: &[u8],
    each: &mut impl FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER {
            return Err(malformed());
        }
        let body = bytes.get(HEADER..length).ok_or_else(malformed)?;
        match u16_at(bytes, 4)? {
            DONE => return Ok(true),
            ERROR => {
                let errno = u32_at(body, 0)?.cast_signed();
                if errno == 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
            }
            kind => each(kind, body)?,
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes in `bytes`: kind and value.
///
/// # Errors
/// Of `each`; an attribute that is malformed.
pub(super) fn attributes(
    mut bytes: &[u8],
    mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_KIND;
        let value = bytes.get(ATTRIBUTE_HEADER..length).ok_or_else(malformed)?;
        each(kind, value)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// One attribute.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    Ok(u16::from_ne_bytes(array_at(bytes, at)?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from_ne_bytes(array_at(bytes, at)?))
}

/// A field of `N` bytes.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|field| field.try_into().ok())
        .ok_or_else(malformed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message as the kernel sends it.
    pub(in super::super) fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn ignore(_: u16, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    #[test]
    fn an_error_is_reported_as_the_kernel_said_it() {
        let bytes = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = parse(&bytes, &mut ignore).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let done = message(ERROR, &0_i32.to_ne_bytes());
        assert!(parse(&done, &mut ignore).unwrap());
    }

    #[test]
    fn attributes_come_back_as_they_were_made() {
        let bytes = [attribute(3, &[1, 2, 3]), attribute(4 | 0x8000, &[])].concat();
        let mut found = Vec::new();
        attributes(&bytes, |kind, value| {
            found.push((kind, value.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(3, vec![1, 2, 3]), (4, vec![])]);
        for cut in 1..8 {
            assert!(
                attributes(&bytes[..cut], ignore).is_err() || cut == 7,
                "{cut} bytes"
            );
        }
        assert!(attributes(&[0; 4], ignore).is_err(), "an endless attribute");
    }
}
