//! A response as it goes out: a head of its own, then resources that all clients share.
//!
//! It is taken a piece at a time, as fast as the client reads: what one client costs does not grow with
//! the size of the mesh.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mesh_common::proto::xds::DeltaDiscoveryResponse;
use prost::Message as _;

use crate::resources::trie::Walk;
use crate::resources::{Delta, Resource};

/// A piece is about this large.
const PIECE: usize = 32 << 10;
/// What gRPC puts before a message: not compressed, and its length.
const PREFIX: usize = 5;

/// The resources of a response.
#[derive(Debug)]
pub(super) enum Resources {
    /// These.
    List(Vec<Arc<Resource>>),
    /// What changed for many clients at once.
    Shared(Arc<Delta>),
    /// Everything, with the length of it.
    All(Walk<Arc<Resource>>, u64),
}

impl Default for Resources {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Resources {
    fn wire_len(&self) -> u64 {
        let sum = |list: &[Arc<Resource>]| list.iter().map(|r| r.wire().len() as u64).sum();
        match self {
            Self::List(list) => sum(list),
            Self::Shared(delta) => sum(&delta.changed),
            Self::All(_, length) => *length,
        }
    }
}

/// The rest of a response that is being sent.
#[derive(Debug)]
pub struct Message {
    head: Option<Bytes>,
    resources: Resources,
    /// How many of a list were sent.
    sent: usize,
    len: u64,
}

impl Message {
    /// `head` is a response without resources.
    pub(super) fn new(head: &DeltaDiscoveryResponse, resources: Resources) -> Self {
        let length = head.encoded_len() as u64 + resources.wire_len();
        let mut bytes = BytesMut::with_capacity(PREFIX + head.encoded_len());
        bytes.put_u8(0);
        // gRPC cannot send 4 GiB as one message; a client refuses the length that does not fit.
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&head.encode_to_vec());
        Self {
            head: Some(bytes.freeze()),
            resources,
            sent: 0,
            len: PREFIX as u64 + length,
        }
    }

    /// Bytes of the whole message, with the prefix.
    pub fn wire_len(&self) -> u64 {
        self.len
    }

    /// The next piece.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let list = match &mut self.resources {
            Resources::All(walk, _) => return gather(walk),
            Resources::Shared(delta) => {
                if let Some(encoded) = delta.encoded() {
                    let all = std::mem::replace(&mut self.sent, encoded.len()) == 0;
                    return (all && !encoded.is_empty()).then(|| encoded.clone());
                }
                &delta.changed
            }
            Resources::List(list) => &*list,
        };
        let sent = &mut self.sent;
        gather(&mut list[*sent..].iter().inspect(|_| *sent += 1))
    }
}

fn gather<R: AsRef<Resource>>(resources: &mut impl Iterator<Item = R>) -> Option<Bytes> {
    let mut piece = BytesMut::new();
    while piece.len() < PIECE {
        let Some(resource) = resources.next() else {
            break;
        };
        let wire = resource.as_ref().wire();
        if piece.is_empty() {
            piece.reserve(wire.len().max(PIECE));
        }
        piece.extend_from_slice(wire);
    }
    (!piece.is_empty()).then(|| piece.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Kind, Step, World};
    use std::time::Instant;

    fn whole(mut message: Message) -> DeltaDiscoveryResponse {
        let length = message.wire_len();
        let mut all = Vec::new();
        while let Some(piece) = message.next_piece() {
            assert!(!piece.is_empty() && piece.len() < 2 * PIECE);
            all.extend_from_slice(&piece);
        }
        assert_eq!(all.len() as u64, length);
        let stated = u32::from_be_bytes(all[1..PREFIX].try_into().unwrap());
        assert_eq!(stated as usize, all.len() - PREFIX);
        DeltaDiscoveryResponse::decode(&all[PREFIX..]).unwrap()
    }

    /// `count` resources of 300 bytes.
    fn world(before: &World, count: usize, mark: u8) -> World {
        let resource = |i: usize| {
            let name = format!("r{i:05}");
            let body = vec![mark; 300];
            let resource = Resource::new(Kind::Address, &name, body, vec![]);
            (Arc::from(name), Some(resource))
        };
        let step = Step {
            addresses: (0..count).map(resource).collect(),
            ..Step::default()
        };
        before.next(step, Instant::now()).unwrap()
    }

    #[test]
    fn every_way_of_sending_gives_a_whole_response() {
        let head = DeltaDiscoveryResponse {
            nonce: "7".into(),
            ..DeltaDiscoveryResponse::default()
        };
        for count in [1, 100, 5000] {
            let one = world(&World::default(), count, 1);
            let two = world(&one, count, 2);
            let table = two.table(Kind::Address);
            let delta = table.since(1).unwrap();
            assert_eq!(delta.encoded().is_some(), count < 5000);
            let list = table.sorted().into_iter().cloned().collect();
            let ways = [
                Resources::List(list),
                Resources::Shared(delta),
                Resources::All(table.walk(), table.wire_len()),
            ];
            for resources in ways {
                let mut response = whole(Message::new(&head, resources));
                response.resources.sort_by(|a, b| a.name.cmp(&b.name));
                let expected = table.sorted().into_iter().map(|r| &*r.name);
                assert!(response.resources.iter().map(|r| &*r.name).eq(expected));
                assert_eq!(response.nonce, "7");
            }
        }
        assert_eq!(whole(Message::new(&head, Resources::default())), head);
    }
}
