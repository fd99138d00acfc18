//! Sets of ports.

use std::collections::BTreeSet;

/// Those listed, or all but those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortSet {
    listed: BTreeSet<u16>,
    inverted: bool,
}

impl PortSet {
    /// Every port.
    pub(super) fn all() -> Self {
        Self {
            inverted: true,
            ..Self::default()
        }
    }

    /// These ports; all of them when there are none, as a condition that is not stated means.
    pub(super) fn stated(ports: &[u16]) -> Self {
        Self {
            listed: ports.iter().copied().collect(),
            inverted: ports.is_empty(),
        }
    }

    pub(super) fn contains(&self, port: u16) -> bool {
        self.listed.contains(&port) != self.inverted
    }

    /// Whether no port is in it. One that lists all ports as exceptions is not seen to be empty.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty() && !self.inverted
    }

    /// Whether it is all ports but those listed.
    pub(super) fn is_inverted(&self) -> bool {
        self.inverted
    }

    /// The ports that it lists: those in it, or those not in it.
    pub(super) fn listed(&self) -> impl Iterator<Item = u16> {
        self.listed.iter().copied()
    }

    /// All others.
    pub(super) fn complement(self) -> Self {
        Self {
            inverted: !self.inverted,
            ..self
        }
    }

    /// Keeps what is in `other` too.
    pub(super) fn intersect(&mut self, other: &Self) {
        self.meet(&other.listed, other.inverted);
    }

    /// Drops what is in `other`.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.meet(&other.listed, !other.inverted);
    }

    /// Adds what is in `other`.
    pub(super) fn unite(&mut self, other: &Self) {
        self.inverted = !self.inverted;
        self.meet(&other.listed, !other.inverted);
        self.inverted = !self.inverted;
    }

    fn meet(&mut self, listed: &BTreeSet<u16>, inverted: bool) {
        match (self.inverted, inverted) {
            (false, _) => self.listed.retain(|port| listed.contains(port) != inverted),
            (true, true) => self.listed.extend(listed),
            (true, false) => {
                self.listed = listed.difference(&self.listed).copied().collect();
                self.inverted = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of the ports 0 to 2, and of all other ports, of which 9 stands for all.
    fn every() -> Vec<PortSet> {
        let listed = |bits: u16| (0..3).filter(|port| bits >> port & 1 == 1).collect();
        let set = |bits, inverted| PortSet {
            listed: listed(bits),
            inverted,
        };
        (0..8)
            .flat_map(|bits| [set(bits, false), set(bits, true)])
            .collect()
    }

    #[test]
    fn they_are_sets() {
        for a in every() {
            assert_eq!(a.is_empty(), [0, 1, 2, 9].iter().all(|p| !a.contains(*p)));
            for b in every() {
                let change = |by: fn(&mut PortSet, &PortSet)| {
                    let mut a = a.clone();
                    by(&mut a, &b);
                    a
                };
                let both = change(PortSet::intersect);
                let either = change(PortSet::unite);
                let less = change(PortSet::subtract);
                for port in [0, 1, 2, 9] {
                    let (in_a, in_b) = (a.contains(port), b.contains(port));
                    assert_eq!(both.contains(port), in_a && in_b, "{a:?} and {b:?}");
                    assert_eq!(either.contains(port), in_a || in_b, "{a:?} or {b:?}");
                    assert_eq!(less.contains(port), in_a && !in_b, "{a:?} without {b:?}");
                    assert_eq!(a.clone().complement().contains(port), !in_a);
                }
            }
        }
    }

    #[test]
    fn a_condition_that_is_not_stated_holds_for_all() {
        assert_eq!(PortSet::stated(&[]), PortSet::all());
        let stated = PortSet::stated(&[80, 80, 443]);
        assert!(stated.contains(80) && stated.contains(443) && !stated.contains(81));
    }
}
