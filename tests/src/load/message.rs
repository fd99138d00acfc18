//! A message on its way through a non-blocking socket, in either direction.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

/// What came of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// The message is complete.
    Done,
    /// The socket has no more for now, or takes no more.
    Blocked,
    /// The peer has ended the stream.
    Ended,
}

/// A buffer that is filled or emptied step by step.
pub(super) struct Message {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    at: usize,
}

impl Message {
    /// An empty message of this size.
    pub(super) fn new(size: usize) -> Self {
        Self {
            bytes: vec![0; size],
            at: 0,
        }
    }

    /// A message that says this.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            at: 0,
        }
    }

    /// Begins from the first byte.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// True when nothing of it has been read or written.
    pub(super) fn is_at_start(&self) -> bool {
        self.at == 0
    }

    /// True when all of it has been read or written.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Reads what is there, up to the end of the message.
    pub(super) fn read(&mut self, mut stream: &TcpStream) -> io::Result<Progress> {
        while self.at < self.bytes.len() {
            match stream.read(&mut self.bytes[self.at..]) {
                Ok(0) => return Ok(Progress::Ended),
                Ok(length) => self.at += length,
                Err(error) => match blocked(error)? {
                    Some(progress) => return Ok(progress),
                    None => continue,
                },
            }
        }
        Ok(Progress::Done)
    }

    /// Writes what the socket takes, up to the end of the message.
    pub(super) fn write(&mut self, mut stream: &TcpStream) -> io::Result<Progress> {
        while self.at < self.bytes.len() {
            match stream.write(&self.bytes[self.at..]) {
                Ok(length) => self.at += length,
                Err(error) => match blocked(error)? {
                    Some(progress) => return Ok(progress),
                    None => continue,
                },
            }
        }
        Ok(Progress::Done)
    }
}

/// Tells an error from a socket that has no more for now and from a call to repeat.
fn blocked(error: io::Error) -> io::Result<Option<Progress>> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(Some(Progress::Blocked)),
        ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}
