//! HTTP/2 frames made by hand (RFC 9113), because a library would keep the rules.

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// HPACK: `:status: 200`, from the static table.
const STATUS_200: u8 = 0x88;

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Reads the next one.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        ensure!(length <= 1 << 20, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        Ok(Self {
            kind: head[3],
            flags: head[4],
            payload,
        })
    }

    /// Whether it is an answer of 200.
    pub(crate) fn is_ok(&self) -> bool {
        // A block may begin with a size update of the dynamic table (RFC 7541, section 6.3).
        let mut block = self.payload.iter().skip_while(|&&byte| byte & 0xe0 == 0x20);
        self.kind == HEADERS && block.next() == Some(&STATUS_200)
    }

    /// The code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let word = self.payload.get(at..at + 4).and_then(|w| w.try_into().ok());
        word.map_or(u32::MAX, u32::from_be_bytes)
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a CONNECT, each field a literal that is not indexed.
pub(crate) fn connect(authority: &str) -> Vec<u8> {
    let mut block = vec![0x02, 7];
    block.extend(b"CONNECT");
    block.extend([0x01, authority.len() as u8]);
    block.extend(authority.as_bytes());
    block
}

/// One more header, of 100 bytes.
pub(crate) fn padding() -> Vec<u8> {
    let mut block = vec![0x00, 5];
    block.extend(b"x-pad");
    block.push(93);
    block.extend([b'x'; 93]);
    block
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}
