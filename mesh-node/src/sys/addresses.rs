//! The addresses of a network namespace, asked of the kernel by rtnetlink.

use rustix::net::netdevice::name_to_index;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Netns;
use super::netlink::{self, DUMP, Netlink};

const REQUEST_ADDRESSES: u16 = 22;
const NEW_ADDRESS: u16 = 20;
/// Where the index of the device is.
const DEVICE_AT: usize = 4;
const SERVICES_DEVICE: &str = "kube-ipvs0";
const GROUP_IPV4_ADDRESSES: u32 = 0x10;
const GROUP_IPV6_ADDRESSES: u32 = 0x100;
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
    addresses_beside(netns, None)
}

/// The same for a node: without the virtual addresses of services, which kube-proxy gives to a device of its own
/// in its IPVS mode.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not answer.
pub fn node_addresses(netns: &Netns) -> io::Result<Vec<IpAddr>> {
    let socket = netns.run(|| Netlink::open(None))??;
    let index = name_to_index(socket.as_fd(), SERVICES_DEVICE);
    addresses_beside(netns, index.ok())
}

fn addresses_beside(netns: &Netns, device: Option<u32>) -> io::Result<Vec<IpAddr>> {
    let socket = netns.run(|| Netlink::open(None))??;
    let mut addresses = Vec::new();
    socket.ask(
        REQUEST_ADDRESSES,
        DUMP,
        &[0; ADDRESS_HEADER],
        |kind, body| {
            if kind == NEW_ADDRESS && device != Some(netlink::u32_at(body, DEVICE_AT)?) {
                addresses.extend(parse_address(body)?);
            }
            Ok(())
        },
    )?;
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

/// Tells when the addresses of a network namespace have changed.
#[derive(Debug)]
pub struct AddressChanges(Netlink);

impl AddressChanges {
    /// Changes from now on.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn of(netns: &Netns) -> io::Result<Self> {
        let groups = GROUP_IPV4_ADDRESSES | GROUP_IPV6_ADDRESSES;
        Ok(Self(netns.run(|| Netlink::listen(None, groups))??))
    }

    /// Blocks until there was a change.
    ///
    /// # Errors
    /// The kernel does not tell any more.
    pub fn wait(&self) -> io::Result<()> {
        self.0.wait()
    }
}

fn parse_address(body: &[u8]) -> io::Result<Option<IpAddr>> {
    let header = body.get(..ADDRESS_HEADER).ok_or_else(netlink::malformed)?;
    let (flags, scope) = (header[2], header[3]);
    if scope != SCOPE_UNIVERSE || flags & FLAG_DADFAILED != 0 {
        return Ok(None);
    }
    let mut address = None;
    netlink::attributes(&body[ADDRESS_HEADER..], |kind, value| {
        // On a point-to-point link ADDRESS is the far end, and LOCAL our own.
        if kind == ATTRIBUTE_LOCAL || (kind == ATTRIBUTE_ADDRESS && address.is_none()) {
            address = ip(value);
        }
        Ok(())
    })?;
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
    use crate::sys::netlink::{attribute, parse, tests::message};

    const DONE: u16 = 3;

    fn address(scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0, 0, 0, scope, 0, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend(attribute(*kind, value));
        }
        message(NEW_ADDRESS, &body)
    }

    fn parse_all(bytes: &[u8]) -> io::Result<(bool, Vec<IpAddr>)> {
        let mut found = Vec::new();
        let done = parse(bytes, &mut |_, body: &[u8]| {
            found.extend(parse_address(body)?);
            Ok(())
        })?;
        Ok((done, found))
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
        let expected = vec!["10.0.0.1".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(parse_all(&bytes).unwrap(), (true, expected));
    }

    #[test]
    fn truncated_messages_are_refused() {
        let whole = address(0, &[(2, &[10, 0, 0, 1])]);
        for cut in 1..whole.len() {
            assert!(parse_all(&whole[..cut]).is_err(), "{cut} bytes");
        }
        let mut short = whole;
        short[16 + ADDRESS_HEADER] = 200;
        assert!(parse_all(&short).is_err());
    }
}
