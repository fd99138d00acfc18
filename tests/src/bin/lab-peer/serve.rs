//! The server's behaviours.

use anyhow::Result;
use clap::Subcommand;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::pattern::{drain, receive, send};

#[derive(Clone, Subcommand)]
pub(crate) enum Behaviour {
    /// Send back what comes.
    Echo,
    /// Check the stream of `seed`, then answer with its length.
    Check { seed: u64 },
    /// Send a stream, then end it.
    Source { bytes: u64, seed: u64 },
    /// End our side first, then read the client's to its end.
    CloseFirst { bytes: u64, seed: u64 },
    /// Reset once some bytes have come.
    ResetAfter { bytes: usize },
    /// Accept and never read.
    Stall,
    /// Read to the end and say how it ended.
    Watch,
    /// Listen, accept nobody: once its queue is full, a connect hangs.
    Deaf,
}

pub(crate) fn run(listen: SocketAddr, behaviour: &Behaviour) -> Result<()> {
    if let Behaviour::Deaf = behaviour {
        return deaf(listen);
    }
    let listener = TcpListener::bind(listen)?;
    println!("listening");
    loop {
        // Not peer_addr(): a connection that was reset by now has none.
        let (tcp, peer) = listener.accept()?;
        let behaviour = behaviour.clone();
        std::thread::spawn(move || match serve(&tcp, &behaviour) {
            Ok(seen) => println!("{peer} {seen}"),
            Err(e) => println!("{peer} error: {e}"),
        });
    }
}

fn deaf(listen: SocketAddr) -> Result<()> {
    let socket = Socket::new(
        Domain::for_address(listen),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.bind(&listen.into())?;
    socket.listen(0)?;
    println!("listening");
    loop {
        std::thread::park();
    }
}

fn serve(mut tcp: &TcpStream, behaviour: &Behaviour) -> Result<String> {
    match behaviour {
        Behaviour::Echo => {
            let mut block = vec![0; 32 << 10];
            let mut total = 0;
            loop {
                let read = tcp.read(&mut block)?;
                if read == 0 {
                    tcp.shutdown(Shutdown::Write)?;
                    return Ok(format!("{total} eof"));
                }
                tcp.write_all(&block[..read])?;
                total += read;
            }
        }
        Behaviour::Check { seed } => {
            let (bytes, end) = receive(tcp, *seed)?;
            writeln!(tcp, "{bytes}")?;
            tcp.shutdown(Shutdown::Write)?;
            Ok(format!("{bytes} {end}"))
        }
        Behaviour::Source { bytes, seed } => {
            send(tcp, *bytes, *seed)?;
            tcp.shutdown(Shutdown::Write)?;
            let (read, end) = drain(tcp)?;
            Ok(format!("{read} {end}"))
        }
        Behaviour::CloseFirst { bytes, seed } => {
            tcp.write_all(b"closing\n")?;
            tcp.shutdown(Shutdown::Write)?;
            let (read, end) = receive(tcp, *seed)?;
            anyhow::ensure!(
                read == *bytes,
                "{read} of {bytes} bytes came after our own end"
            );
            Ok(format!("{read} {end}"))
        }
        Behaviour::ResetAfter { bytes } => {
            tcp.read_exact(&mut vec![0; *bytes])?;
            SockRef::from(tcp).set_linger(Some(Duration::ZERO))?;
            Ok(format!("{bytes} we reset"))
        }
        Behaviour::Stall | Behaviour::Deaf => loop {
            std::thread::park();
        },
        Behaviour::Watch => {
            let (bytes, end) = drain(tcp)?;
            Ok(format!("{bytes} {end}"))
        }
    }
}
