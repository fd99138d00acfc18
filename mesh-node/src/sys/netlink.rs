//! The addresses of a network namespace, asked of the kernel by rtnetlink.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Netns;

const REQUEST_ADDRESSES: u16 = 22;
const NEW_ADDRESS: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const SCOPE_UNIVERSE: u8 = 0;
const FLAG_DADFAILED: u8 = 0x08;

/// Every address of global scope in a namespace, IPv4 first; without loopback.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not answer.
pub fn interface_addresses(netns: &Netns) -> io::Result<Vec<IpAddr>> {
    let mut addresses = netns.run(dump)??;
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

fn dump() -> io::Result<Vec<IpAddr>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADER + ADDRESS_HEADER);
    request.extend(((HEADER + ADDRESS_HEADER) as u32).to_ne_bytes());
    request.extend(REQUEST_ADDRESSES.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8 + ADDRESS_HEADER]);
    send(&socket, &request, SendFlags::empty())?;
    let mut addresses = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (_, received) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if parse_messages(&buffer[..received.min(buffer.len())], &mut addresses)? {
            return Ok(addresses);
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed rtnetlink message")
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let field = bytes
        .get(at..at + 2)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(malformed)?;
    Ok(u16::from_ne_bytes(field))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let field = bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(malformed)?;
    Ok(u32::from_ne_bytes(field))
}

/// Reads one datagram; true when it ended the dump.
fn parse_messages(mut bytes: &[u8], addresses: &mut Vec<IpAddr>) -> io::Result<bool> {
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
                return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
            }
            NEW_ADDRESS => addresses.extend(parse_address(body)?),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn parse_address(body: &[u8]) -> io::Result<Option<IpAddr>> {
    let header = body.get(..ADDRESS_HEADER).ok_or_else(malformed)?;
    let (flags, scope) = (header[2], header[3]);
    if scope != SCOPE_UNIVERSE || flags & FLAG_DADFAILED != 0 {
        return Ok(None);
    }
    let mut address = None;
    let mut attributes = &body[ADDRESS_HEADER..];
    while !attributes.is_empty() {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)?;
        let value = attributes.get(4..length).ok_or_else(malformed)?;
        // On a point-to-point link ADDRESS is the far end, and LOCAL our own.
        if kind == ATTRIBUTE_LOCAL || (kind == ATTRIBUTE_ADDRESS && address.is_none()) {
            address = ip(value);
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(address.filter(|a| !a.is_loopback() && !a.is_unspecified()))
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn address(scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0, 0, 0, scope, 0, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend(((4 + value.len()) as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
        }
        message(NEW_ADDRESS, &body)
    }

    #[test]
    fn global_addresses_are_kept_and_the_local_end_wins() {
        let mut bytes = address(0, &[(1, &[10, 0, 0, 2]), (2, &[10, 0, 0, 1])]);
        bytes.extend(address(254, &[(2, &[127, 0, 0, 1])]));
        bytes.extend(address(
            0,
            &[(1, &Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7).octets())],
        ));
        bytes.extend(message(DONE, &[0; 4]));
        let mut found = Vec::new();
        assert!(parse_messages(&bytes, &mut found).unwrap());
        assert_eq!(
            found,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "fd00::7".parse().unwrap()
            ]
        );
    }

    #[test]
    fn truncated_messages_are_refused() {
        let whole = address(0, &[(2, &[10, 0, 0, 1])]);
        for cut in 1..whole.len() {
            assert!(
                parse_messages(&whole[..cut], &mut Vec::new()).is_err(),
                "{cut} bytes"
            );
        }
        let mut short = whole;
        short[HEADER + ADDRESS_HEADER] = 200;
        assert!(parse_messages(&short, &mut Vec::new()).is_err());
    }

    #[test]
    fn an_error_is_reported_as_the_kernel_said_it() {
        let bytes = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = parse_messages(&bytes, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
