//! What is not enforced as it was written, by what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::ObjectName;

/// What a warning is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Policy(ObjectName),
    Service(ObjectName),
    /// Pods that share it.
    PodAddress(IpAddr),
    /// Services that share it.
    ServiceAddress(IpAddr),
}

#[derive(Debug, Default)]
pub(super) struct Warnings {
    lines: BTreeMap<Subject, Vec<String>>,
    changed: bool,
}

impl Warnings {
    /// All that there is to say about the subject.
    pub(super) fn set(&mut self, subject: Subject, lines: Vec<String>) {
        let before = self.lines.get(&subject);
        if before.map_or(&[][..], Vec::as_slice) == lines {
            return;
        }
        self.changed = true;
        if lines.is_empty() {
            self.lines.remove(&subject);
        } else {
            self.lines.insert(subject, lines);
        }
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.lines.keys()
    }

    pub(super) fn all(&self) -> BTreeSet<String> {
        self.lines.values().flatten().cloned().collect()
    }

    /// All, if any is new or gone since the last call.
    pub(super) fn take_changed(&mut self) -> Option<BTreeSet<String>> {
        std::mem::take(&mut self.changed).then(|| self.all())
    }
}

/// One line for each claim that loses an address; claimants come worst first.
pub(super) fn contested<'a>(
    kind: &'static str,
    address: IpAddr,
    claimants: impl IntoIterator<Item = &'a ObjectName>,
) -> Vec<String> {
    let claimants: Vec<_> = claimants.into_iter().collect();
    let line = |pair: &[&ObjectName]| {
        format!(
            "{kind} {}: its address {address} is also that of {kind} {}, which keeps it; give each \
             its own",
            pair[0], pair[1]
        )
    };
    claimants.windows(2).map(line).collect()
}
