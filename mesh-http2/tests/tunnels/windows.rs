//! An observer on the wire that keeps its own account of the windows of one sender.

use std::collections::BTreeMap;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// What one end may send, worked out from what it has sent and what has reached it.
#[derive(Debug)]
pub(crate) struct Windows {
    sent: Frames,
    delivered: Frames,
    pub(crate) connection: i64,
    initial: i64,
    streams: BTreeMap<u32, i64>,
}

impl Windows {
    /// `preface`: bytes of the client's preface in what this end sends, and in what reaches it.
    pub(crate) fn new(sent_preface: usize, delivered_preface: usize) -> Self {
        Self {
            sent: Frames::after(sent_preface),
            delivered: Frames::after(delivered_preface),
            connection: 65_535,
            initial: 65_535,
            streams: BTreeMap::new(),
        }
    }

    /// The end has made these bytes; panics when they are more than its windows allow.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        for frame in self.sent.push(bytes) {
            match frame.kind {
                HEADERS => self.open(frame.stream),
                DATA => {
                    let length = i64::from(frame.length);
                    let stream = self.streams.get_mut(&frame.stream);
                    let stream = stream.expect("DATA on an open stream");
                    *stream -= length;
                    self.connection -= length;
                    let fits = length == 0 || (*stream >= 0 && self.connection >= 0);
                    assert!(fits, "stream {}: the windows are exceeded", frame.stream);
                }
                _ => {}
            }
        }
    }

    /// These bytes of the peer have reached the end.
    pub(crate) fn delivered(&mut self, bytes: &[u8]) {
        for frame in self.delivered.push(bytes) {
            match frame.kind {
                HEADERS => self.open(frame.stream),
                SETTINGS if frame.flags & ACK == 0 => self.settings(&frame.payload),
                WINDOW_UPDATE => {
                    let increment = number(&frame.payload);
                    assert!(increment > 0);
                    let window = match frame.stream {
                        0 => Some(&mut self.connection),
                        id => self.streams.get_mut(&id),
                    };
                    let window = window.expect("an open stream");
                    *window += increment;
                    assert!(*window < 1 << 31, "a window grows too large");
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, id: u32) {
        self.streams.entry(id).or_insert(self.initial);
    }

    fn settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks(6) {
            if entry[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                let new = number(&entry[2..]);
                for window in self.streams.values_mut() {
                    *window += new - self.initial;
                }
                self.initial = new;
            }
        }
    }
}

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |n, &b| n << 8 | i64::from(b))
}

struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
struct Frames {
    skip: usize,
    bytes: Vec<u8>,
}

impl Frames {
    fn after(skip: usize) -> Self {
        let bytes = Vec::new();
        Self { skip, bytes }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.bytes.extend(&bytes[skipped..]);
        let (mut frames, mut used) = (Vec::new(), 0);
        while let Some((&[l0, l1, l2, kind, flags, s0, s1, s2, s3], rest)) =
            self.bytes[used..].split_first_chunk()
        {
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let Some(payload) = rest.get(..length as usize) else {
                break;
            };
            frames.push(Frame {
                length,
                kind,
                flags,
                stream: u32::from_be_bytes([s0, s1, s2, s3]),
                payload: payload.to_vec(),
            });
            used += 9 + payload.len();
        }
        self.bytes.drain(..used);
        frames
    }
}
