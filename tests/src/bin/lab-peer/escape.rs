//! Ways to open a TCP connection that an eBPF hook might overlook.

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::net::connect_unspec;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// `sendto` that connects, with its data in the SYN where the kernel agrees.
const MSG_FASTOPEN: i32 = 0x2000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A socket mark.
    Mark,
    /// Bound to the pod's device.
    Device,
    /// Bound to the device, from an IPv4-mapped IPv6 socket, with a mark.
    Mapped,
    /// Connected within the pod, disconnected (`AF_UNSPEC`), then connected to the server.
    AfterLocal,
    /// Connected to the server, disconnected, then connected to it again.
    Reconnect,
    /// Connected by `sendto` with `MSG_FASTOPEN`.
    FastOpen,
    /// Multipath TCP.
    Multipath,
    /// A source address that the pod chose.
    Bound,
}

#[derive(Args)]
pub(crate) struct Escape {
    server: SocketAddr,
    #[arg(long, value_enum)]
    way: Way,
    /// Sent to an echo server; what comes back is printed.
    #[arg(long)]
    say: String,
    /// The pod's own address, for `bound`.
    #[arg(long)]
    own: Option<IpAddr>,
}

pub(crate) fn run(escape: &Escape) -> Result<()> {
    let server = match (escape.way, escape.server) {
        (Way::Mapped, SocketAddr::V4(v4)) => {
            let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
            SocketAddr::new(mapped.into(), v4.port())
        }
        (_, server) => server,
    };
    let protocol = match escape.way {
        Way::Multipath => Protocol::MPTCP,
        _ => Protocol::TCP,
    };
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(protocol))?;
    let text = escape.say.as_bytes();
    let mut said = 0;
    match escape.way {
        Way::Mark => socket.set_mark(0x539)?,
        Way::Device => socket.bind_device(Some(b"eth0"))?,
        Way::Mapped => {
            socket.set_mark(0x539)?;
            socket.bind_device(Some(b"eth0"))?;
        }
        Way::AfterLocal => {
            let local = TcpListener::bind((server_family(server), 0))?;
            socket.connect(&local.local_addr()?.into())?;
            connect_unspec(&socket)?;
        }
        Way::Reconnect => {
            socket.connect(&server.into())?;
            connect_unspec(&socket)?;
        }
        Way::FastOpen => {
            said = socket
                .send_to_with_flags(text, &server.into(), MSG_FASTOPEN)
                .context("MSG_FASTOPEN")?;
        }
        Way::Multipath => {}
        Way::Bound => {
            let own = escape.own.context("--own is missing")?;
            socket.bind(&SocketAddr::new(own, 0).into())?;
        }
    }
    if escape.way != Way::FastOpen {
        socket.connect(&server.into()).context("connect")?;
    }
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = socket;
    stream.write_all(&text[said..])?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).context("echo")?;
    ensure!(heard == text, "another answer");
    println!("heard {}", String::from_utf8_lossy(&heard));
    Ok(())
}

/// The loopback address of the server's family.
fn server_family(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}
