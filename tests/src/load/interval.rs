//! Counters of received bytes, and what they grew by in an interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The bytes that one stream has received so far.
pub(super) type Received = Arc<AtomicU64>;

/// What streams received in an interval.
#[derive(Debug, PartialEq)]
pub(super) struct Interval {
    /// Its length, by the receiver's clock.
    pub(super) length: Duration,
    /// The bytes of each stream.
    pub(super) bytes: Vec<u64>,
}

impl Interval {
    /// Lets the warm-up pass, then takes an interval of about this length.
    pub(super) fn take(streams: &[Received], warm_up: Duration, length: Duration) -> Self {
        std::thread::sleep(warm_up);
        let (start, before) = (Instant::now(), snapshot(streams));
        std::thread::sleep(length);
        let (end, after) = (Instant::now(), snapshot(streams));
        Self {
            length: end - start,
            bytes: after.iter().zip(&before).map(|(a, b)| a - b).collect(),
        }
    }

    /// The bytes on the wire: nanoseconds, number of streams, bytes of each.
    pub(super) fn encode(&self) -> Vec<u8> {
        let nanos = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
        let head = [nanos, self.bytes.len() as u64];
        let words = head.iter().chain(&self.bytes);
        words.flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Reads an interval; `None` when the bytes are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
        let (nanos, streams) = (words.next()?, words.next()?);
        let bytes: Vec<u64> = words.collect();
        (rest.is_empty() && bytes.len() as u64 == streams).then_some(Self {
            length: Duration::from_nanos(nanos),
            bytes,
        })
    }
}

fn snapshot(streams: &[Received]) -> Vec<u64> {
    let load = |stream: &Received| stream.load(Ordering::Relaxed);
    streams.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_as_it_was_written_and_never_in_part() {
        let interval = Interval {
            length: Duration::from_nanos(5_000_000_123),
            bytes: vec![1, u64::MAX, 0],
        };
        let bytes = interval.encode();
        assert_eq!(Interval::decode(&bytes), Some(interval));
        for length in 0..bytes.len() {
            assert_eq!(Interval::decode(&bytes[..length]), None);
        }
    }
}
