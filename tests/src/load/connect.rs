//! The client that opens one connection after another.
//!
//! Each is a whole life: connect, a request of 24 bytes, an answer of one byte, and the server's close,
//! after which the client closes too. No reset is sent. Because the server closes first, the TIME_WAIT
//! is on its side, where it costs no port: the client's ports are free again at once and never run out.

use super::WARM_UP;
use super::dial::Dialer;
use super::header::Request;
use super::outcome::Connections;
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Opens connections for this long, so many at a time, from one thread.
///
/// # Errors
/// When a connection fails or takes too long.
pub fn connect(to: SocketAddr, concurrency: usize, length: Duration) -> Result<Connections> {
    let counted = count(to, concurrency, length);
    let connections = counted.with_context(|| format!("connections to {to}"))?;
    ensure!(
        connections > 0,
        "no connection to {to} was done in the interval"
    );
    Ok(Connections {
        connections,
        seconds: length.as_secs_f64(),
    })
}

fn count(to: SocketAddr, concurrency: usize, length: Duration) -> Result<u64> {
    let mut dialer = Dialer::new(to, Request::Close)?;
    let start = Instant::now() + WARM_UP;
    let end = start + length;
    for _ in 0..concurrency {
        dialer.dial()?;
    }
    let mut counted = 0;
    while dialer.pending() > 0 {
        let mut done = 0;
        // After the interval those on their way are waited for: they must not fail either.
        let now = Instant::now();
        let until = if now < end {
            end
        } else {
            now + Duration::from_secs(1)
        };
        dialer.wait(until, |_closed| {
            done += 1;
            Ok(())
        })?;
        let now = Instant::now();
        if (start..end).contains(&now) {
            counted += done;
        }
        if now < end {
            for _ in 0..done {
                dialer.dial()?;
            }
        }
    }
    Ok(counted)
}
