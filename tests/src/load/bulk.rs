//! The client of a bulk transfer.

use super::header::Request;
use super::interval::{Interval, Received};
use super::outcome::Throughput;
use super::{CHUNK, PATIENCE, WARM_UP, stream};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Sends or receives as fast as possible on this many connections, one thread each.
///
/// # Errors
/// When a connection fails, carries nothing in the interval, or loses a byte.
pub fn bulk(
    to: SocketAddr,
    streams: usize,
    length: Duration,
    direction: Direction,
) -> Result<Throughput> {
    let interval = match direction {
        Direction::Up => up(to, streams, length),
        Direction::Down => down(to, streams, length),
    };
    let interval = interval.with_context(|| format!("bulk {direction:?} with {to}"))?;
    ensure!(
        interval.bytes.len() == streams,
        "bulk {direction:?} with {to}: {} of {streams} streams were open",
        interval.bytes.len()
    );
    if let Some(stream) = interval.bytes.iter().position(|bytes| *bytes == 0) {
        bail!("bulk {direction:?} with {to}: stream {stream} carried nothing in the interval");
    }
    Ok(Throughput {
        bytes: interval.bytes.iter().sum(),
        seconds: interval.length.as_secs_f64(),
    })
}

fn up(to: SocketAddr, streams: usize, length: Duration) -> Result<Interval> {
    let run = rand::random();
    let mut control = stream::open(to)?;
    let streams = open(to, streams, Request::Receive { run })?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let send = |stream| scope.spawn(|| send(stream, &stop));
        let senders: Vec<_> = streams.into_iter().map(send).collect();
        let interval = measure(&mut control, run, length);
        stop.store(true, Ordering::Relaxed);
        join(senders).and(interval)
    })
}

fn down(to: SocketAddr, streams: usize, length: Duration) -> Result<Interval> {
    let streams = open(to, streams, Request::Send)?;
    let counters: Vec<Received> = streams.iter().map(|_| Received::default()).collect();
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let receive = |(stream, counter)| scope.spawn(move || receive(stream, counter, stop));
        let receivers: Vec<_> = streams.iter().zip(&counters).map(receive).collect();
        let interval = Interval::take(&counters, WARM_UP, length);
        stop.store(true, Ordering::Relaxed);
        // A stream that is gone already is told of by its thread.
        for stream in &streams {
            let _ = stream.shutdown(Shutdown::Write);
        }
        join(receivers).map(|()| interval)
    })
}

fn open(to: SocketAddr, streams: usize, request: Request) -> Result<Vec<TcpStream>> {
    let open = |n| stream::ask(to, request).with_context(|| format!("stream {n}"));
    (0..streams).map(open).collect()
}

/// Has the server measure what it receives.
fn measure(control: &mut TcpStream, run: u64, length: Duration) -> Result<Interval> {
    control.set_read_timeout(Some(WARM_UP + length + PATIENCE))?;
    let request = Request::Measure {
        run,
        warm_up: WARM_UP,
        interval: length,
    };
    control
        .write_all(&request.encode())
        .context("cannot ask for a measurement")?;
    let mut answer = Vec::new();
    control
        .read_to_end(&mut answer)
        .context("the server did not tell what it received")?;
    Interval::decode(&answer).context("what the server told is no interval")
}

/// Sends until told to stop, then checks that everything arrived. That also leaves no byte on its way
/// that could disturb the next measurement.
fn send(mut stream: TcpStream, stop: &AtomicBool) -> Result<()> {
    let chunk = vec![0x5a; CHUNK];
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&chunk).context("cannot send")?;
        sent += CHUNK as u64;
    }
    stream.shutdown(Shutdown::Write).context("cannot end")?;
    let mut sum = [0; 8];
    stream
        .read_exact(&mut sum)
        .context("the server did not tell how much it received in all")?;
    let received = u64::from_be_bytes(sum);
    ensure!(
        received == sent,
        "{sent} bytes were sent and {received} received"
    );
    Ok(())
}

/// Receives to the server's end, which must not come before it was told to stop.
fn receive(mut stream: &TcpStream, received: &Received, stop: &AtomicBool) -> Result<()> {
    stream.write_all(b"!").context("cannot begin")?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) if stop.load(Ordering::Relaxed) => return Ok(()),
            Ok(0) => bail!("the server ended the stream too early"),
            Ok(length) => {
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}

/// Waits for all; the first failure is the one that is told.
fn join(threads: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    let mut joined = Ok(());
    for (n, thread) in threads.into_iter().enumerate() {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("its thread panicked")));
        joined = joined.and(ended.with_context(|| format!("stream {n}")));
    }
    joined
}
