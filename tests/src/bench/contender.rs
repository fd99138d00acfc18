//! Who is measured: a way for connections to take, between nodes or on one node.

use std::fmt;

/// The way that connections take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// No proxy touches them.
    Direct,
    /// Weft.
    Weft,
    /// Weft with `--same-node direct`.
    WeftDirect,
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
    /// All there are, with a peer or without, and with Weft's same-node fast path where the agent has it.
    pub(super) fn all(peer: Option<&str>, fast_path: bool) -> Vec<Self> {
        let mut ways = vec![(Via::Direct, false), (Via::Direct, true)];
        ways.extend([(Via::Weft, false), (Via::Weft, true)]);
        if fast_path {
            ways.push((Via::WeftDirect, true));
        }
        if let Some(name) = peer {
            let via = Via::Peer(name.to_owned());
            ways.extend([(via.clone(), false), (via, true)]);
        }
        let contender = |(via, same_node)| Self { via, same_node };
        ways.into_iter().map(contender).collect()
    }

    /// No proxy between pods that are placed as this contender's are.
    pub(super) const fn without_proxy(&self) -> Self {
        Self {
            via: Via::Direct,
            same_node: self.same_node,
        }
    }

    /// True for each of its kind once: a proxy's memory is the same whomever it serves.
    pub(super) fn stands_for_its_proxy(&self) -> bool {
        matches!(self.via, Via::Weft | Via::Peer(_)) && !self.same_node
    }

    /// Its place in comparisons: it is compared with those of a lower rank.
    const fn rank(&self) -> u8 {
        match self.via {
            Via::Direct => 0,
            Via::Peer(_) => 1,
            Via::Weft | Via::WeftDirect => 2,
        }
    }
}

/// Who is compared with whom: a proxy with no proxy, Weft also with its peer.
pub(super) fn pairs(contenders: &[Contender]) -> Vec<(String, String)> {
    let rivals = |of: &Contender| {
        let (rank, same_node) = (of.rank(), of.same_node);
        let lower = move |other: &&Contender| other.rank() < rank && other.same_node == same_node;
        let name = of.to_string();
        let pair = move |other: &Contender| (name.clone(), other.to_string());
        contenders.iter().filter(lower).map(pair)
    };
    contenders.iter().flat_map(rivals).collect()
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, end) = match &self.via {
            Via::Direct => ("direct", ""),
            Via::Weft => ("weft", ""),
            Via::WeftDirect => ("weft", "-direct"),
            Via::Peer(name) => (&**name, ""),
        };
        let place = if self.same_node { "-same-node" } else { "" };
        write!(f, "{name}{place}{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weft_is_compared_with_its_peer_and_everyone_with_no_mesh() {
        let all = Contender::all(Some("other"), true);
        let pairs = pairs(&all);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(
            pairs,
            [
                ("weft", "direct"),
                ("weft", "other"),
                ("weft-same-node", "direct-same-node"),
                ("weft-same-node", "other-same-node"),
                ("weft-same-node-direct", "direct-same-node"),
                ("weft-same-node-direct", "other-same-node"),
                ("other", "direct"),
                ("other-same-node", "direct-same-node"),
            ]
        );
        assert_eq!(Contender::all(None, false).len(), 4);
    }
}
