//! Frames that are nearly sound: their fields are arbitrary, and bytes of them may be changed.

use arbitrary::Arbitrary;

/// A stream: mostly one of a few, so that frames meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Id {
    /// The first streams.
    Near(u8),
    /// Any.
    Far(u32),
}

impl Id {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Near(n) => u32::from(n % 12),
            Self::Far(n) => n,
        }
    }
}

/// A header block.
#[derive(Arbitrary, Debug)]
pub enum Block {
    Connect,
    Status(u16),
    /// Literal fields, some of them added to the dynamic table.
    Fields(Vec<(bool, Vec<u8>, Vec<u8>)>),
    /// One field of this size.
    Large(u16),
    Raw(Vec<u8>),
}

fn literal(out: &mut Vec<u8>, added: bool, name: &[u8], value: &[u8]) {
    out.push(if added { 0x40 } else { 0 });
    for text in [name, value] {
        match text.len().checked_sub(127) {
            None => out.push(text.len() as u8),
            Some(rest) => out.extend([
                0x7f,
                (rest % 128) as u8 | 0x80,
                (rest / 128 % 128) as u8 | 0x80,
                (rest / 16_384) as u8,
            ]),
        }
        out.extend(text);
    }
}

impl Block {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Connect => {
                literal(&mut out, true, b":method", b"CONNECT");
                literal(&mut out, true, b":authority", b"10.0.0.1:80");
            }
            Self::Status(status) => {
                let digits = format!("{:03}", status % 600);
                literal(&mut out, false, b":status", digits.as_bytes());
            }
            Self::Fields(fields) => {
                for (added, name, value) in fields {
                    literal(&mut out, *added, name, value);
                }
            }
            Self::Large(size) => {
                literal(&mut out, false, b":method", b"CONNECT");
                literal(&mut out, false, b":authority", b"a:1");
                literal(&mut out, true, b"large", &vec![b'x'; usize::from(*size)]);
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
        out
    }
}

/// A frame of the peer.
#[derive(Arbitrary, Debug)]
pub enum Frame {
    Data {
        stream: Id,
        length: u16,
        padding: Option<u8>,
        end: bool,
    },
    Headers {
        stream: Id,
        block: Block,
        end: bool,
        /// Where the block goes on in CONTINUATION frames, and whether it ever ends.
        cut: Option<u8>,
        open: bool,
    },
    Continuation {
        stream: Id,
        block: Block,
        end_headers: bool,
    },
    Settings {
        entries: Vec<(u8, u32)>,
        ack: bool,
    },
    Ping {
        payload: [u8; 8],
        ack: bool,
    },
    /// The answer to the PING of a graceful shutdown.
    Leaving,
    WindowUpdate {
        stream: Id,
        increment: u32,
    },
    Reset {
        stream: Id,
        code: u8,
    },
    GoAway {
        last: Id,
        code: u8,
        debug: u8,
    },
    Priority {
        stream: Id,
        length: u8,
    },
    Unknown {
        kind: u8,
        flags: u8,
        stream: Id,
        length: u16,
    },
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

impl Frame {
    /// The bytes; DATA is all zero.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data {
                stream,
                length,
                padding,
                end,
            } => {
                let mut payload = vec![0; usize::from(*length)];
                let mut flags = u8::from(*end);
                if let Some(padding) = padding {
                    flags |= 8;
                    payload.insert(0, *padding);
                }
                frame(out, 0, flags, stream.number(), &payload);
            }
            Self::Headers {
                stream,
                block,
                end,
                cut,
                open,
            } => {
                let block = block.encode();
                let at = cut.map_or(block.len(), |at| block.len().min(usize::from(at)));
                let (first, rest) = block.split_at(at);
                let last = if *open { 0 } else { 4 };
                let flags = u8::from(*end) | if cut.is_some() { 0 } else { last };
                frame(out, 1, flags, stream.number(), first);
                if cut.is_some() {
                    frame(out, 9, last, stream.number(), rest);
                }
            }
            Self::Continuation {
                stream,
                block,
                end_headers,
            } => frame(
                out,
                9,
                u8::from(*end_headers) << 2,
                stream.number(),
                &block.encode(),
            ),
            Self::Settings { entries, ack } => {
                let mut payload = Vec::new();
                for (id, value) in entries {
                    payload.extend((u16::from(*id) % 8).to_be_bytes());
                    payload.extend(value.to_be_bytes());
                }
                frame(out, 4, u8::from(*ack), 0, &payload);
            }
            Self::Ping { payload, ack } => frame(out, 6, u8::from(*ack), 0, payload),
            Self::Leaving => frame(out, 6, 1, 0, b"leaving!"),
            Self::WindowUpdate { stream, increment } => {
                frame(out, 8, 0, stream.number(), &increment.to_be_bytes());
            }
            Self::Reset { stream, code } => {
                frame(out, 3, 0, stream.number(), &u32::from(*code).to_be_bytes());
            }
            Self::GoAway { last, code, debug } => {
                let mut payload = last.number().to_be_bytes().to_vec();
                payload.extend(u32::from(*code).to_be_bytes());
                payload.extend(vec![b'd'; usize::from(*debug)]);
                frame(out, 7, 0, 0, &payload);
            }
            Self::Priority { stream, length } => {
                frame(out, 2, 0, stream.number(), &vec![0; usize::from(*length)]);
            }
            Self::Unknown {
                kind,
                flags,
                stream,
                length,
            } => frame(
                out,
                *kind,
                *flags,
                stream.number(),
                &vec![0; usize::from(*length)],
            ),
        }
    }
}
