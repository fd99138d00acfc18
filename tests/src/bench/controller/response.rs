//! Reads discovery responses off a stream without keeping what it does not need.

use anyhow::{Result, bail, ensure};

/// Fields of a response that are kept.
const TYPE_URL: u64 = 4;
const NONCE: u64 = 5;
/// They are no longer than this, bytes.
const SHORT: u64 = 256;
/// What gRPC puts before a message.
const PREFIX: usize = 5;

/// What is known of one response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// With what gRPC puts before it.
    pub(super) bytes: u64,
}

/// Takes the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    current: Response,
    /// Bytes of the message that are still to come; zero between messages.
    left: u64,
    /// The beginning of a prefix, or of a field.
    start: Vec<u8>,
    /// Bytes of the field's value that are still to come.
    skip: u64,
    keep: Option<u64>,
    value: Vec<u8>,
}

impl Reader {
    /// The responses that this piece completes.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<Vec<Response>> {
        let mut complete = Vec::new();
        while !piece.is_empty() {
            if self.left == 0 {
                self.prefix(&mut piece)?;
            } else if self.skip > 0 {
                self.value(&mut piece)?;
            } else {
                self.field(&mut piece)?;
            }
            let in_message = self.current.bytes > 0;
            if in_message && self.left == 0 && self.start.is_empty() {
                ensure!(self.skip == 0, "a field is longer than its message");
                complete.push(std::mem::take(&mut self.current));
            }
        }
        Ok(complete)
    }

    fn prefix(&mut self, piece: &mut &[u8]) -> Result<()> {
        let (now, later) = piece.split_at(piece.len().min(PREFIX - self.start.len()));
        self.start.extend_from_slice(now);
        *piece = later;
        let Ok([compressed, length @ ..]) = <[u8; PREFIX]>::try_from(&self.start[..]) else {
            return Ok(());
        };
        ensure!(compressed == 0, "a message is compressed");
        self.start.clear();
        self.left = u32::from_be_bytes(length).into();
        self.current.bytes = PREFIX as u64 + self.left;
        Ok(())
    }

    /// The key and the length of a field, byte by byte.
    fn field(&mut self, piece: &mut &[u8]) -> Result<()> {
        let (first, rest) = piece.split_at(1);
        self.start.extend_from_slice(first);
        *piece = rest;
        self.left -= 1;
        let Some((key, used)) = varint(&self.start) else {
            return Ok(());
        };
        let Some((length, _)) = varint(&self.start[used..]) else {
            return Ok(());
        };
        self.start.clear();
        let (number, wire_type) = (key >> 3, key & 7);
        ensure!(wire_type == 2, "field {number} has wire type {wire_type}");
        self.keep = [TYPE_URL, NONCE].contains(&number).then_some(number);
        if self.keep.is_some() && length > SHORT {
            bail!("field {number} has {length} bytes");
        }
        self.skip = length;
        Ok(())
    }

    fn value(&mut self, piece: &mut &[u8]) -> Result<()> {
        let length = self.skip.min(piece.len() as u64);
        let (now, later) = piece.split_at(usize::try_from(length)?);
        *piece = later;
        self.skip -= length;
        self.left = self.left.saturating_sub(length);
        let Some(number) = self.keep else {
            return Ok(());
        };
        self.value.extend_from_slice(now);
        if self.skip == 0 {
            let text = String::from_utf8(std::mem::take(&mut self.value))?;
            match number {
                TYPE_URL => self.current.type_url = text,
                _ => self.current.nonce = text,
            }
        }
        Ok(())
    }
}

/// A number, and how many bytes it took.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((number, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::proto::xds::{DeltaDiscoveryResponse, Resource};
    use prost::Message as _;

    #[test]
    fn responses_are_told_apart_however_they_are_cut() {
        let response = |nonce: &str, count: usize| DeltaDiscoveryResponse {
            system_version_info: "7".into(),
            resources: vec![
                Resource {
                    name: "r".repeat(300),
                    ..Default::default()
                };
                count
            ],
            type_url: "some/type".into(),
            nonce: nonce.into(),
            removed_resources: vec!["gone".into()],
        };
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (nonce, count) in [("1", 0), ("2", 3), ("", 1)] {
            let body = response(nonce, count).encode_to_vec();
            stream.push(0);
            stream.extend((body.len() as u32).to_be_bytes());
            stream.extend(&body);
            expected.push(Response {
                type_url: "some/type".into(),
                nonce: nonce.into(),
                bytes: (PREFIX + body.len()) as u64,
            });
        }
        for size in [1, 2, 7, 100, stream.len()] {
            let mut reader = Reader::default();
            let mut got = Vec::new();
            for piece in stream.chunks(size) {
                got.extend(reader.take(piece).unwrap());
            }
            assert_eq!(got, expected, "in pieces of {size}");
        }
        assert!(Reader::default().take(&[1, 0, 0, 0, 1]).is_err());
    }
}
