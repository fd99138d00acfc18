//! Connections that are opened, answered once, and then held without a word.

use super::dial::Dialer;
use super::files;
use super::header::Request;
use anyhow::{Context as _, Result, ensure};
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How many are opened at a time.
const IN_FLIGHT: usize = 128;

/// Idle connections; they close when this value is dropped.
pub struct Idle {
    to: SocketAddr,
    held: Vec<TcpStream>,
}

impl Idle {
    /// Opens this many.
    ///
    /// # Errors
    /// When one fails, or too few open files are allowed.
    pub fn open(to: SocketAddr, connections: usize) -> Result<Self> {
        files::room_for(connections)?;
        let mut held = Vec::with_capacity(connections);
        fill(to, connections, &mut held)
            .with_context(|| format!("{} of {connections} connections to {to}", held.len()))?;
        Ok(Self { to, held })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True when none is open.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Checks that each is still open.
    ///
    /// # Errors
    /// When one was closed in the meantime.
    pub fn check(&self) -> Result<()> {
        let lost = self.held.iter().filter(|stream| !is_open(stream)).count();
        ensure!(
            lost == 0,
            "{lost} of {} idle connections to {} were closed while they were held",
            self.held.len(),
            self.to
        );
        Ok(())
    }
}

fn fill(to: SocketAddr, connections: usize, held: &mut Vec<TcpStream>) -> Result<()> {
    let mut dialer = Dialer::new(to, Request::Hold)?;
    while held.len() < connections {
        while dialer.pending() < IN_FLIGHT && held.len() + dialer.pending() < connections {
            dialer.dial()?;
        }
        dialer.wait(Instant::now() + Duration::from_secs(1), |stream| {
            held.push(stream);
            Ok(())
        })?;
    }
    Ok(())
}

/// True when there is nothing to read and no end.
fn is_open(mut stream: &TcpStream) -> bool {
    let read = stream.read(&mut [0]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
