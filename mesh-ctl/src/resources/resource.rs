//! One resource, kept as it is sent: as an entry of a response.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Buf;
use mesh_common::proto::xds;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use super::Kind;

/// Field 2 of a response, length-delimited.
const ENTRY: u8 = 2 << 3 | 2;
/// Field 4 of a resource, length-delimited.
const ALIAS: u64 = 4 << 3 | 2;
/// Bytes of the hash that make the version; it has two digits for each.
const HASH: usize = 12;

/// One encoded resource.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its kind.
    pub name: Arc<str>,
    wire: Box<[u8]>,
    version: u32,
    body: (u32, u32),
    aliases: u32,
}

impl Resource {
    /// Derives the version from the content. Equal messages must be encoded to equal bytes. The aliases
    /// are other names that it can be asked for by: `network/ip`.
    pub fn new(kind: Kind, name: &str, body: Vec<u8>, aliases: Vec<String>) -> Self {
        let hash = digest::digest(&digest::SHA256, &body);
        let version: String = hash.as_ref()[..HASH]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let body_len = body.len();
        // Fields are encoded by number: version, resource, name, aliases.
        let entry = xds::Resource {
            name: name.to_owned(),
            version,
            resource: Some(prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value: body,
            }),
            aliases,
            ..xds::Resource::default()
        };
        let mut wire = Vec::with_capacity(entry.encoded_len() + 6);
        wire.push(ENTRY);
        encode_varint(entry.encoded_len() as u64, &mut wire);
        // After its own key and length.
        let version = wire.len() + 2;
        let aliases = entry.aliases.iter().map(|a| field_len(a.len()));
        let aliases_len: usize = aliases.sum();
        let named = field_len(name.len());
        entry.encode(&mut wire).unwrap_or_default();
        let aliases = wire.len() - aliases_len;
        let body_end = aliases - if name.is_empty() { 0 } else { named };
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            name: name.into(),
            version: at(version),
            body: (at(body_end - body_len), at(body_end)),
            aliases: at(aliases),
            wire: wire.into(),
        }
    }

    /// A hash of the content.
    pub fn version(&self) -> &str {
        let start = self.version as usize;
        std::str::from_utf8(&self.wire[start..start + 2 * HASH]).unwrap_or_default()
    }

    /// The encoded message.
    pub fn body(&self) -> &[u8] {
        &self.wire[self.body.0 as usize..self.body.1 as usize]
    }

    /// The entry of a response, with its key and length.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Other names that it can be asked for by.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        let mut rest = &self.wire[self.aliases as usize..];
        std::iter::from_fn(move || {
            let key = decode_varint(&mut rest).ok()?;
            debug_assert_eq!(key, ALIAS);
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let alias = rest.get(..length)?;
            rest.advance(length);
            std::str::from_utf8(alias).ok()
        })
    }
}

/// A length-delimited field with a small number.
fn field_len(length: usize) -> usize {
    1 + prost::encoding::encoded_len_varint(length as u64) + length
}

impl AsRef<Self> for Resource {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_entry_of_a_response_and_knows_its_parts() {
        for (length, aliases) in [(0, 0), (1, 1), (100, 2), (130, 0), (20_000, 3)] {
            let name = "n".repeat(length.max(1));
            let aliases: Vec<String> = (0..aliases).map(|i| format!("/10.0.0.{i}")).collect();
            let body = vec![7; length];
            let resource = Resource::new(Kind::Address, &name, body.clone(), aliases.clone());
            let response = xds::DeltaDiscoveryResponse::decode(resource.wire()).unwrap();
            let [entry] = &response.resources[..] else {
                panic!("not one entry")
            };
            assert_eq!(entry.name, name);
            assert_eq!(entry.version, resource.version());
            assert_eq!(resource.version().len(), 24);
            assert_eq!(entry.resource.as_ref().unwrap().value, body);
            assert_eq!(resource.body(), body);
            assert_eq!(entry.aliases, aliases);
            assert!(resource.aliases().eq(aliases.iter()));
        }
    }
}
