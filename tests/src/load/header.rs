//! The first bytes of each connection: what the client asks of the server.

use super::MAX_MESSAGE;
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// The length of a request, in bytes.
pub(super) const LENGTH: usize = 24;

/// The first three bytes of each request.
const MAGIC: [u8; 3] = *b"LAB";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Request {
    /// Answer once and keep the connection until the client closes it.
    Hold,
    /// Answer once and close.
    Close,
    /// Send each message of this size back.
    Echo {
        /// Bytes.
        size: u32,
    },
    /// Answer once, then take bytes until the end, count them for the run, and tell their number.
    Receive {
        /// The streams that are measured together.
        run: u64,
    },
    /// Answer once, then send from the client's first byte on until the client's end.
    Send,
    /// Tell what the streams of a run received in an interval.
    Measure {
        /// The streams that are measured together.
        run: u64,
        /// The time before the interval.
        warm_up: Duration,
        /// The length of the interval.
        interval: Duration,
    },
}

impl Request {
    /// The bytes on the wire: magic, mode, size, run, warm-up and interval in milliseconds.
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let (mode, size, run, warm_up, interval) = match self {
            Self::Hold => (b'h', 0, 0, 0, 0),
            Self::Close => (b'c', 0, 0, 0, 0),
            Self::Echo { size } => (b'e', size, 0, 0, 0),
            Self::Receive { run } => (b'r', 0, run, 0, 0),
            Self::Send => (b's', 0, 0, 0, 0),
            Self::Measure {
                run,
                warm_up,
                interval,
            } => (b'm', 0, run, millis(warm_up), millis(interval)),
        };
        let mut bytes = [0; LENGTH];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = mode;
        bytes[4..8].copy_from_slice(&u32::to_be_bytes(size));
        bytes[8..16].copy_from_slice(&u64::to_be_bytes(run));
        bytes[16..20].copy_from_slice(&u32::to_be_bytes(warm_up));
        bytes[20..].copy_from_slice(&u32::to_be_bytes(interval));
        bytes
    }

    /// Reads a request; an error says what is wrong with it.
    pub(super) fn decode(bytes: &[u8; LENGTH]) -> Result<Self> {
        ensure!(
            bytes[..3] == MAGIC,
            "the connection does not begin with {MAGIC:?}: is the client lab-load?"
        );
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let run = (u64::from(word(8)) << 32) | u64::from(word(12));
        let duration = |at| Duration::from_millis(u64::from(word(at)));
        Ok(match bytes[3] {
            b'h' => Self::Hold,
            b'c' => Self::Close,
            b'e' => {
                let size = word(4);
                ensure!(
                    (1..=MAX_MESSAGE).contains(&size),
                    "a message of {size} bytes: 1 to {MAX_MESSAGE} are possible"
                );
                Self::Echo { size }
            }
            b'r' => Self::Receive { run },
            b's' => Self::Send,
            b'm' => Self::Measure {
                run,
                warm_up: duration(16),
                interval: duration(20),
            },
            mode => bail!("there is no mode {mode:#x}"),
        })
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let run = 0x0123_4567_89ab_cdef;
        for request in [
            Request::Hold,
            Request::Close,
            Request::Echo { size: MAX_MESSAGE },
            Request::Receive { run },
            Request::Send,
            Request::Measure {
                run,
                warm_up: Duration::from_millis(300),
                interval: Duration::from_secs(5),
            },
        ] {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let mut foreign = Request::Hold.encode();
        foreign[0] = b'G';
        let mut unknown = Request::Hold.encode();
        unknown[3] = b'?';
        let empty = Request::Echo { size: 0 }.encode();
        let large = Request::Echo {
            size: MAX_MESSAGE + 1,
        }
        .encode();
        for (bytes, complaint) in [
            (foreign, "does not begin"),
            (unknown, "no mode"),
            (empty, "a message of 0 bytes"),
            (large, "a message of 1048577 bytes"),
        ] {
            let error = Request::decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
