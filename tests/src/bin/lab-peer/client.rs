//! The client's behaviours.

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use rand::RngExt as _;
use socket2::SockRef;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::pattern::{End, Pattern, drain, receive, send};

#[derive(Subcommand)]
pub(crate) enum Behaviour {
    /// Send a stream, end it, print the answer.
    Send { bytes: u64, seed: u64 },
    /// Check the stream that comes.
    Receive { bytes: u64, seed: u64 },
    /// Read the server's end first, then send a stream all the same.
    SendAfterEof { bytes: u64, seed: u64 },
    /// Many connections at once to an echo server, written in random pieces.
    Many { connections: u64, bytes: usize },
    /// Send some bytes, then reset.
    Reset { bytes: usize },
    /// Send some bytes, then say how the connection ended.
    Watch { bytes: usize },
    /// Write until nothing is taken for `seconds`, print how much was; at most `limit` bytes.
    Push { limit: u64, seconds: u64 },
    /// Like `push`, in writes of 16 bytes that are sent one by one.
    PushSmall { limit: u64, seconds: u64 },
    /// Connect, say so, and say how it ended. Sends nothing.
    Idle,
    /// Send a stream to an echo server without a pause and check what comes back, until told to end it.
    Busy { seed: u64 },
}

pub(crate) fn run(server: SocketAddr, behaviour: &Behaviour) -> Result<()> {
    if let Behaviour::Many { connections, bytes } = behaviour {
        return many(server, *connections, *bytes);
    }
    let mut tcp = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
    match behaviour {
        Behaviour::Many { .. } => {}
        Behaviour::Send { bytes, seed } => {
            send(&tcp, *bytes, *seed)?;
            tcp.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            tcp.read_to_string(&mut answer)?;
            println!("answer {}", answer.trim());
        }
        Behaviour::Receive { bytes, seed } => {
            let (read, end) = receive(&tcp, *seed)?;
            ensure!(
                read == *bytes && end == End::Eof,
                "{read} of {bytes} bytes, then {end}"
            );
            println!("received {read}");
        }
        Behaviour::SendAfterEof { bytes, seed } => {
            let mut lines = BufReader::new(tcp.try_clone()?);
            let mut line = String::new();
            lines.read_line(&mut line)?;
            ensure!(lines.read(&mut [0])? == 0, "more than one line came");
            send(&tcp, *bytes, *seed)?;
            tcp.shutdown(Shutdown::Write)?;
            println!("sent after {}", line.trim());
        }
        Behaviour::Reset { bytes } => {
            tcp.write_all(&vec![7; *bytes])?;
            // The bytes are on their way before the reset overtakes them.
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
            println!("we reset");
        }
        Behaviour::Watch { bytes } => {
            // A reset that comes before everything is written is told to the writer, and only once.
            let (read, end) = match tcp.write_all(&vec![7; *bytes]) {
                Err(e) if e.kind() == ErrorKind::ConnectionReset => (0, End::Reset),
                Err(e) => return Err(e.into()),
                Ok(()) => drain(&tcp)?,
            };
            println!("{read} {end}");
        }
        Behaviour::Push { limit, seconds } => {
            push(&tcp, 64 << 10, *limit, Duration::from_secs(*seconds))?;
        }
        Behaviour::PushSmall { limit, seconds } => {
            tcp.set_nodelay(true)?;
            push(&tcp, 16, *limit, Duration::from_secs(*seconds))?;
        }
        Behaviour::Idle => {
            println!("connected");
            let (read, end) = drain(&tcp)?;
            println!("{read} {end}");
        }
        Behaviour::Busy { seed } => println!("{}", busy(&tcp, *seed)?),
    }
    Ok(())
}

/// Sends and checks block after block, and says how many bytes came back and how it ended.
fn busy(mut tcp: &TcpStream, seed: u64) -> Result<String> {
    let told = Arc::new(AtomicBool::new(false));
    let hears = told.clone();
    std::thread::spawn(move || {
        // The end of the input tells the same.
        let _ = std::io::stdin().read_line(&mut String::new());
        hears.store(true, Ordering::Relaxed);
    });
    let mut pattern = Pattern::new(seed);
    let mut back = vec![0; 32 << 10];
    let mut echoed = 0;
    while !told.load(Ordering::Relaxed) {
        let block = pattern.next(back.len());
        match tcp
            .write_all(&block)
            .and_then(|()| tcp.read_exact(&mut back))
        {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                return Ok(format!("{echoed} reset"));
            }
            Err(e) => return Err(e).with_context(|| format!("after {echoed} bytes")),
        }
        ensure!(back == block, "after {echoed} bytes others came back");
        if echoed == 0 {
            println!("busy");
        }
        echoed += block.len();
    }
    tcp.shutdown(Shutdown::Write)?;
    let (rest, end) = drain(tcp)?;
    ensure!(rest == 0, "{rest} bytes came that were not sent");
    Ok(format!("{echoed} {end}"))
}

fn push(mut tcp: &TcpStream, piece: usize, limit: u64, patience: Duration) -> Result<()> {
    tcp.set_write_timeout(Some(patience))?;
    let block = vec![7; piece];
    let mut taken = 0;
    while taken < limit {
        match tcp.write(&block) {
            Ok(written) => taken += written as u64,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        }
    }
    println!("taken {taken}");
    // Hold the connection until told otherwise.
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn many(server: SocketAddr, connections: u64, bytes: usize) -> Result<()> {
    let threads: Vec<_> = (0..connections)
        .map(|seed| std::thread::spawn(move || echo_in_pieces(server, seed, bytes)))
        .collect();
    for (seed, thread) in threads.into_iter().enumerate() {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("connection {seed} panicked"))?
            .with_context(|| format!("connection {seed}"))?;
    }
    println!("echoed {connections}");
    Ok(())
}

fn echo_in_pieces(server: SocketAddr, seed: u64, bytes: usize) -> Result<()> {
    let tcp = TcpStream::connect(server)?;
    tcp.set_nodelay(true)?;
    let sent = Pattern::new(seed).next(bytes);
    let mut writer = tcp.try_clone()?;
    let stream = sent.clone();
    let writing = std::thread::spawn(move || -> Result<()> {
        let mut rng = rand::rng();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.random_range(1..=rest.len().min(20_000)));
            writer.write_all(piece)?;
            rest = after;
        }
        Ok(writer.shutdown(Shutdown::Write)?)
    });
    let mut echoed = Vec::with_capacity(bytes);
    let mut reader = &tcp;
    reader.read_to_end(&mut echoed)?;
    writing
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(
        echoed == sent,
        "{} of {bytes} bytes came back, or not the same",
        echoed.len()
    );
    Ok(())
}
