//! The client of round trips: on each connection one message is on its way at any time.

use super::header::Request;
use super::latency::Latencies;
use super::message::{Message, Progress};
use super::outcome::RoundTrips;
use super::poll::{Poll, Ready};
use super::{PATIENCE, WARM_UP, stream};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Sends messages of `size` bytes there and back on this many connections, from one thread. Every
/// answer is compared with what was sent.
///
/// # Errors
/// When a connection fails, brings back something else, or completes no round trip in the interval.
pub fn rtt(to: SocketAddr, size: u32, connections: usize, length: Duration) -> Result<RoundTrips> {
    let what = || format!("round trips of {size} bytes to {to}");
    let mut pings = (0..connections)
        .map(|n| Ping::open(to, size, n).with_context(|| format!("connection {n}")))
        .collect::<Result<Vec<_>>>()
        .with_context(what)?;
    let mut record = Record::begin(length);
    match &mut *pings {
        [only] => alone(only, &mut record),
        many => together(many, &mut record),
    }
    .with_context(what)?;
    record.finish(length).with_context(what)
}

/// The times of the measured interval.
struct Record {
    start: Instant,
    end: Instant,
    latencies: Latencies,
}

impl Record {
    fn begin(length: Duration) -> Self {
        let start = Instant::now() + WARM_UP;
        Self {
            start,
            end: start + length,
            latencies: Latencies::default(),
        }
    }

    /// Keeps a round trip when it ended in the interval, and tells whether it did.
    fn keep(&mut self, sent: Instant, back: Instant) -> bool {
        let kept = (self.start..self.end).contains(&back);
        if kept {
            self.latencies.add(back - sent);
        }
        kept
    }

    fn finish(self, length: Duration) -> Result<RoundTrips> {
        let round_trips = self.latencies.len() as u64;
        let sorted = self.latencies.sort();
        let share = |share| {
            sorted
                .per_mille(share)
                .context("none was complete in the interval")
        };
        Ok(RoundTrips {
            round_trips,
            seconds: length.as_secs_f64(),
            p50_us: share(500)?,
            p99_us: share(990)?,
            p999_us: share(999)?,
        })
    }
}

/// One connection and its message.
struct Ping {
    stream: TcpStream,
    there: Message,
    back: Message,
    sequence: u64,
    sent: Instant,
}

impl Ping {
    fn open(to: SocketAddr, size: u32, index: usize) -> Result<Self> {
        let mut stream = stream::open(to)?;
        stream.set_nodelay(true)?;
        stream
            .write_all(&Request::Echo { size }.encode())
            .context("cannot send the request")?;
        let byte = |at: usize| (at.wrapping_mul(31) ^ index) as u8;
        let bytes: Vec<u8> = (0..size as usize).map(byte).collect();
        Ok(Self {
            stream,
            there: Message::of(&bytes),
            back: Message::new(bytes.len()),
            sequence: 0,
            sent: Instant::now(),
        })
    }

    /// Makes the next message, which differs from the one before it.
    fn next(&mut self) {
        self.sequence += 1;
        let stamp = self.sequence.to_be_bytes();
        let length = stamp.len().min(self.there.bytes.len());
        self.there.bytes[..length].copy_from_slice(&stamp[stamp.len() - length..]);
        self.there.rewind();
        self.back.rewind();
        self.sent = Instant::now();
    }

    /// Checks what came back.
    fn check(&self) -> Result<()> {
        ensure!(
            self.back.bytes == self.there.bytes,
            "round trip {} brought back something else",
            self.sequence
        );
        Ok(())
    }

    /// Sends what the socket takes.
    fn send(&mut self) -> Result<()> {
        self.there.write(&self.stream).context("cannot send")?;
        Ok(())
    }

    /// Goes on after an event; true when the answer is complete. An answer never comes with the event
    /// that lets the rest of its message go.
    fn turn(&mut self) -> Result<bool> {
        if !self.there.is_done() {
            self.send()?;
            return Ok(false);
        }
        match self.back.read(&self.stream).context("cannot receive")? {
            Progress::Done => self.check().map(|()| true),
            Progress::Blocked => Ok(false),
            Progress::Ended => bail!("the server closed the connection"),
        }
    }
}

/// One connection: blocking calls, the least work between two messages.
fn alone(ping: &mut Ping, record: &mut Record) -> Result<()> {
    loop {
        ping.next();
        ping.stream
            .write_all(&ping.there.bytes)
            .context("cannot send")?;
        ping.stream
            .read_exact(&mut ping.back.bytes)
            .context("got no answer")?;
        let back = Instant::now();
        ping.check()?;
        record.keep(ping.sent, back);
        if back >= record.end {
            return Ok(());
        }
    }
}

/// Many connections: one readiness loop.
fn together(pings: &mut [Ping], record: &mut Record) -> Result<()> {
    let mut poll = Poll::new()?;
    for (n, ping) in pings.iter_mut().enumerate() {
        ping.stream.set_nonblocking(true)?;
        // Edge-triggered for both directions. The first event is that the socket can be written to.
        poll.add(&ping.stream, n, Ready::IN | Ready::OUT | Ready::ET)?;
        ping.next();
    }
    let mut counts = vec![0_u64; pings.len()];
    let mut open = pings.len();
    while open > 0 {
        // Those on their way at the end are waited for: they must not fail either.
        let deadline = record.end.max(Instant::now()) + PATIENCE;
        let events = poll.wait(Some(deadline))?;
        ensure!(
            events > 0 || Instant::now() < deadline,
            "{open} connections got no answer for {} s",
            PATIENCE.as_secs()
        );
        for event in 0..events {
            let (n, _) = poll.event(event);
            let ping = &mut pings[n];
            if ping.turn().with_context(|| format!("connection {n}"))? {
                let back = Instant::now();
                if record.keep(ping.sent, back) {
                    counts[n] += 1;
                }
                if back >= record.end {
                    open -= 1;
                    poll.remove(&ping.stream)?;
                } else {
                    ping.next();
                    ping.send().with_context(|| format!("connection {n}"))?;
                }
            }
        }
    }
    let starved = counts.iter().filter(|count| **count == 0).count();
    ensure!(
        starved == 0,
        "{starved} of {} connections completed none in the interval",
        counts.len()
    );
    Ok(())
}
