//! Packets with a source address of our choice: one SYN that carries data, so that a server with TCP Fast
//! Open has heard it before any handshake.

use anyhow::{Result, bail};
use clap::Args;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const SYN: u8 = 2;
/// To the kernel: the packet brings its own IP header.
const RAW: i32 = 255;

#[derive(Args)]
pub(crate) struct Spoof {
    server: SocketAddr,
    /// Whom the packet claims to come from.
    #[arg(long)]
    source: SocketAddr,
    #[arg(long)]
    say: String,
}

pub(crate) fn run(spoof: &Spoof) -> Result<()> {
    let data = spoof.say.as_bytes();
    let segment = segment(spoof.source, spoof.server, data)?;
    let (domain, packet) = match (spoof.source.ip(), spoof.server.ip()) {
        (IpAddr::V4(source), IpAddr::V4(server)) => {
            let length = u16::try_from(20 + segment.len())?.to_be_bytes();
            // The kernel fills in the header's checksum.
            let mut packet = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, TCP, 0, 0];
            packet.extend(source.octets());
            packet.extend(server.octets());
            (Domain::IPV4, [packet, segment].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(server)) => {
            let length = u16::try_from(segment.len())?.to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], TCP, 64];
            packet.extend(source.octets());
            packet.extend(server.octets());
            (Domain::IPV6, [packet, segment].concat())
        }
        _ => bail!("two families of addresses"),
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
    socket.send_to(&packet, &SocketAddr::new(spoof.server.ip(), 0).into())?;
    println!("sent");
    Ok(())
}

fn segment(source: SocketAddr, server: SocketAddr, data: &[u8]) -> Result<Vec<u8>> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&source.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&server.port().to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = SYN;
    tcp[14..16].copy_from_slice(&64_000_u16.to_be_bytes());
    tcp.extend(data);
    let mut covered = [octets(source.ip()), octets(server.ip())].concat();
    covered.extend([0, TCP]);
    covered.extend(u16::try_from(tcp.len())?.to_be_bytes());
    covered.extend(&tcp);
    let sum: u32 = covered
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    Ok(tcp)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
