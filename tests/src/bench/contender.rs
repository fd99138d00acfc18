//! Who is measured: a way for connections to take, between nodes or on one node.

use std::fmt;

/// The way that connections take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// No proxy touches them.
    Direct,
    /// Weft.
    Weft,
    /// The peer of this name.
    Peer(String),
}

/// One column of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    pub(super) via: Via,
    /// Both pods are on one node.
    pub(super) same_node: bool,
}

impl Contender {
    /// All there are, with a peer or without.
    pub(super) fn all(peer: Option<&str>) -> Vec<Self> {
        let mut ways = vec![Via::Direct, Via::Weft];
        ways.extend(peer.map(|name| Via::Peer(name.to_owned())));
        let both = |via: &Via| {
            [false, true].map(|same_node| Self {
                via: via.clone(),
                same_node,
            })
        };
        ways.iter().flat_map(both).collect()
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.via {
            Via::Direct => "direct",
            Via::Weft => "weft",
            Via::Peer(name) => name,
        })?;
        if self.same_node {
            f.write_str("-same-node")?;
        }
        Ok(())
    }
}
