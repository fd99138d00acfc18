//! The server's side of bulk transfer and of its measurement: blocking, one thread per connection.

use super::header::Request;
use super::interval::Interval;
use super::runs::{Member, Runs};
use super::{ANSWER, CHUNK};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;

/// Serves one connection on a thread of its own, to its end.
pub(super) fn spawn(stream: TcpStream, request: Request, runs: &Runs) -> Result<()> {
    let runs = runs.clone();
    let serve = move || {
        let served = match request {
            Request::Receive { run } => receive(stream, &runs.join(run)),
            Request::Send => send(stream),
            Request::Measure {
                run,
                warm_up,
                interval,
            } => {
                let interval = Interval::take(&runs.streams(run), warm_up, interval);
                answer(stream, &interval.encode())
            }
            Request::Hold | Request::Close | Request::Echo { .. } => Ok(()),
        };
        if let Err(error) = served {
            eprintln!("lab-load: {request:?}: {error:#}");
        }
    };
    let thread = std::thread::Builder::new().name("transfer".into());
    thread.spawn(serve).context("cannot start a thread")?;
    Ok(())
}

/// Counts what comes; at the end it tells the client the sum, so that a lost byte shows.
fn receive(mut stream: TcpStream, member: &Member) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(&[ANSWER]).context("cannot answer")?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let length = length as u64;
                member.received.fetch_add(length, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
    let sum = member.received.load(Ordering::Relaxed);
    stream
        .write_all(&sum.to_be_bytes())
        .context("cannot tell the sum")
}

/// Sends from the client's first byte until its end.
fn send(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(&[ANSWER]).context("cannot answer")?;
    stream.read_exact(&mut [0]).context("was never begun")?;
    let chunk = vec![0x5a; CHUNK];
    while !ended(&stream)? {
        stream.write_all(&chunk).context("cannot send")?;
    }
    stream
        .shutdown(Shutdown::Write)
        .context("cannot end the stream")
}

fn ended(stream: &TcpStream) -> Result<bool> {
    match rustix::net::recv(stream, &mut [0_u8], RecvFlags::DONTWAIT) {
        Ok((_, length)) => {
            ensure!(length == 0, "the client sent more than one byte");
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("cannot tell whether the client goes on"),
    }
}

fn answer(mut stream: TcpStream, bytes: &[u8]) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(bytes).context("cannot answer")
}
