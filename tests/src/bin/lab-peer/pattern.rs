//! A byte stream that both ends can compute: any loss, change or reordering is seen where it happens.

use anyhow::{Result, ensure};
use std::io::{self, Read, Write};
use std::net::TcpStream;

const BLOCK: usize = 64 << 10;

/// The stream of one seed (xorshift64*).
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let bytes = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }

    /// The next `length` bytes; a multiple of 8, except at the end.
    pub(crate) fn next(&mut self, length: usize) -> Vec<u8> {
        let mut block = vec![0; length];
        self.fill(&mut block);
        block
    }
}

/// Sends `bytes` bytes of the stream of `seed`.
pub(crate) fn send(mut tcp: &TcpStream, bytes: u64, seed: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(BLOCK as u64);
        tcp.write_all(&pattern.next(usize::try_from(now)?))?;
        left -= now;
    }
    Ok(())
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
        })
    }
}

/// Reads to the end, checking each byte against the stream of `seed`.
pub(crate) fn receive(mut tcp: &TcpStream, seed: u64) -> Result<(u64, End)> {
    let mut pattern = Pattern::new(seed);
    let mut block = vec![0; BLOCK];
    let mut total = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match tcp.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok((total + filled as u64, End::Reset));
                }
                Err(e) => return Err(e.into()),
            }
        }
        ensure!(
            block[..filled] == pattern.next(filled),
            "bytes {total} to {} are not those that were sent",
            total + filled as u64
        );
        total += filled as u64;
        if filled < BLOCK {
            return Ok((total, End::Eof));
        }
    }
}

/// Reads and forgets until the end.
pub(crate) fn drain(mut tcp: &TcpStream) -> Result<(u64, End)> {
    let mut block = vec![0; BLOCK];
    let mut total = 0;
    loop {
        match tcp.read(&mut block) {
            Ok(0) => return Ok((total, End::Eof)),
            Ok(read) => total += read as u64,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok((total, End::Reset)),
            Err(e) => return Err(e.into()),
        }
    }
}
