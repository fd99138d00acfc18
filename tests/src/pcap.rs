//! Reads a packet capture: TCP streams put back in order, so that a word split over two packets is
//! still found, and every frame as it was, so that nothing hides in what is not TCP.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GLOBAL_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const MAGIC: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];
const ETHERNET: u32 = 1;

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The sender's address.
    pub source: IpAddr,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's address.
    pub destination: IpAddr,
    /// The receiver's port.
    pub destination_port: u16,
}

/// What was captured.
#[derive(Debug, Default)]
pub struct Trace {
    frames: Vec<Vec<u8>>,
    segments: BTreeMap<Flow, Vec<(u32, Vec<u8>)>>,
    packets: BTreeMap<Flow, usize>,
}

/// How many TLS records of each kind were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsRecords {
    /// Records of the handshake that are not encrypted.
    pub handshake: usize,
    /// Encrypted records.
    pub application: usize,
}

impl Trace {
    /// Parses a capture file; a last packet that is not complete yet is left out.
    pub fn parse(file: &[u8]) -> Result<Self> {
        ensure!(file.len() >= GLOBAL_HEADER, "the capture has no header yet");
        ensure!(file.starts_with(&MAGIC), "not a little-endian pcap file");
        ensure!(u32_le(&file[20..]) == ETHERNET, "not an Ethernet capture");
        let mut trace = Self::default();
        let mut rest = &file[GLOBAL_HEADER..];
        while let Some(header) = rest.get(..PACKET_HEADER) {
            let length = u32_le(&header[8..]) as usize;
            let Some(frame) = rest[PACKET_HEADER..].get(..length) else {
                break;
            };
            trace.add(frame);
            rest = &rest[PACKET_HEADER + length..];
        }
        Ok(trace)
    }

    /// True when the bytes occur in a TCP stream or in any frame.
    pub fn contains(&self, needle: &[u8]) -> bool {
        self.frames.iter().any(|frame| find(frame, needle))
            || self
                .segments
                .keys()
                .any(|flow| find(&self.stream(flow), needle))
    }

    /// The number of TCP packets to or from this port.
    pub fn packets_on_port(&self, port: u16) -> usize {
        let on_port = |flow: &Flow| flow.source_port == port || flow.destination_port == port;
        self.packets
            .iter()
            .filter(|(flow, _)| on_port(flow))
            .map(|(_, count)| count)
            .sum()
    }

    /// The TLS records of every stream to this port whose beginning was captured.
    pub fn tls_records_to(&self, port: u16) -> TlsRecords {
        let mut records = TlsRecords::default();
        for flow in self
            .segments
            .keys()
            .filter(|flow| flow.destination_port == port)
        {
            let stream = self.stream(flow);
            let mut rest = stream.as_slice();
            while let [kind, 3, 1..=3, high, low, body @ ..] = rest {
                match kind {
                    22 => records.handshake += 1,
                    23 => records.application += 1,
                    _ => {}
                }
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = body.get(length..).unwrap_or_default();
            }
        }
        records
    }

    /// The TCP flows with data.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.segments.keys()
    }

    /// The bytes of one direction in the order of their sequence numbers, repetitions left out.
    pub fn stream(&self, flow: &Flow) -> Vec<u8> {
        let Some(segments) = self.segments.get(flow) else {
            return Vec::new();
        };
        let base = segments.first().map_or(0, |(sequence, _)| *sequence);
        // Relative to the first packet seen, half the number space to each side.
        let offset = |sequence: u32| i64::from(sequence.wrapping_sub(base).cast_signed());
        let mut ordered: Vec<_> = segments
            .iter()
            .map(|(s, data)| (offset(*s), data))
            .collect();
        ordered.sort_by_key(|(offset, _)| *offset);
        let mut bytes = Vec::new();
        let mut end = i64::MIN;
        for (start, data) in ordered {
            let skip = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            bytes.extend_from_slice(data.get(skip..).unwrap_or_default());
            end = end.max(start + data.len() as i64);
        }
        bytes
    }

    fn add(&mut self, frame: &[u8]) {
        self.frames.push(frame.to_owned());
        if let Some((flow, sequence, data)) = tcp(frame) {
            *self.packets.entry(flow).or_default() += 1;
            if !data.is_empty() {
                self.segments
                    .entry(flow)
                    .or_default()
                    .push((sequence, data.to_owned()));
            }
        }
    }
}

/// Ethernet, IPv4 or IPv6 without extension headers, TCP.
fn tcp(frame: &[u8]) -> Option<(Flow, u32, &[u8])> {
    let packet = frame.get(14..)?;
    let (source, destination, segment) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let total = usize::from(u16_be(packet.get(2..)?)?);
            if *packet.get(9)? != 6 {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(bytes).into())
            };
            // A length of 0 is a packet that the card was to cut up: all of the frame is data.
            let end = if total == 0 {
                packet.len()
            } else {
                total.min(packet.len())
            };
            (address(12)?, address(16)?, packet.get(header..end)?)
        }
        [0x86, 0xdd] => {
            let length = usize::from(u16_be(packet.get(4..)?)?);
            if *packet.get(6)? != 6 {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(bytes).into())
            };
            let end = if length == 0 {
                packet.len()
            } else {
                (40 + length).min(packet.len())
            };
            (address(8)?, address(24)?, packet.get(40..end)?)
        }
        _ => return None,
    };
    let flow = Flow {
        source,
        source_port: u16_be(segment)?,
        destination,
        destination_port: u16_be(segment.get(2..)?)?,
    };
    let sequence = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    let header = usize::from(segment.get(12)? >> 4) * 4;
    Some((flow, sequence, segment.get(header..)?))
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

fn u16_be(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn u32_le(bytes: &[u8]) -> u32 {
    bytes
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::Trace;

    fn frame(sequence: u32, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        let total = u16::try_from(40 + data.len()).unwrap().to_be_bytes();
        frame.extend([
            0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend(40000_u16.to_be_bytes());
        frame.extend(15008_u16.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        frame.extend(data);
        frame
    }

    fn file(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = super::MAGIC.to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            file.extend([0; 8]);
            file.extend(length);
            file.extend(length);
            file.extend(frame);
        }
        file
    }

    #[test]
    fn a_word_split_over_packets_out_of_order_is_found() {
        let start = u32::MAX - 2;
        let frames = [
            frame(start, b"see"),
            frame(start.wrapping_add(6), b"in"),
            frame(start.wrapping_add(3), b"dle"),
            frame(start.wrapping_add(3), b"dle"),
            frame(start.wrapping_add(2), b"ed"),
        ];
        let trace = Trace::parse(&file(&frames)).unwrap();
        assert!(trace.contains(b"seedlein"));
        assert!(!trace.contains(b"seedledle"));
        assert_eq!(trace.packets_on_port(15008), 5);
        assert_eq!(trace.packets_on_port(80), 0);
    }

    #[test]
    fn tls_records_are_counted_and_plaintext_is_none() {
        let hello = frame(1, &[22, 3, 1, 0, 2, 9, 9, 23, 3, 3, 0, 1]);
        let rest = frame(13, &[7, 23, 3, 3, 0, 1, 7]);
        let records = Trace::parse(&file(&[hello, rest]))
            .unwrap()
            .tls_records_to(15008);
        assert_eq!((records.handshake, records.application), (1, 2));
        let clear = Trace::parse(&file(&[frame(1, b"PRI * HTTP/2.0")])).unwrap();
        assert_eq!(clear.tls_records_to(15008), super::TlsRecords::default());
    }

    #[test]
    fn a_packet_cut_short_is_left_out() {
        let whole = file(&[frame(1, b"first"), frame(6, b"second")]);
        let trace = Trace::parse(&whole[..whole.len() - 3]).unwrap();
        assert!(trace.contains(b"first") && !trace.contains(b"second"));
    }
}
