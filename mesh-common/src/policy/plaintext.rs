//! What no connection in the clear could be allowed, whoever sends it: known before it is there.
//!
//! Such a connection has no principal. Of it only the port is looked at; its addresses may be any. A port is
//! refused only if [`decide`](super::decide) denies each such connection and
//! [`report`](super::report) would say nothing of it. The converse does not hold: rules that together cover
//! all addresses, and none of them alone, are not seen to.

use ipnet::IpNet;
use std::collections::BTreeMap;

use super::group::{Counted, Group};
use super::matches::{Clause, Match, Rule, fail_closed};
use super::ports::PortSet;
use super::{Policy, PolicyAction, PolicySet, Verdict};

/// The ports at which every connection in the clear is denied, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Sets that have no port in common. At most one of them is inverted.
    parts: Vec<(Verdict, PortSet)>,
}

impl Refused {
    /// What denies every connection in the clear to this port; none when one may be allowed.
    #[must_use]
    pub fn get(&self, port: u16) -> Option<&Verdict> {
        let mut parts = self.parts.iter();
        parts
            .find(|(_, ports)| ports.contains(port))
            .map(|(verdict, _)| verdict)
    }

    /// The same for every port that is not among [`Refused::exceptions`].
    #[must_use]
    pub fn others(&self) -> Option<&Verdict> {
        let mut parts = self.parts.iter();
        parts
            .find(|(_, ports)| ports.is_inverted())
            .map(|(verdict, _)| verdict)
    }

    /// The ports for which something else holds than for the others.
    #[must_use]
    pub fn exceptions(&self) -> BTreeMap<u16, Option<&Verdict>> {
        let others = self.others();
        let listed = self.parts.iter().flat_map(|(_, ports)| ports.listed());
        listed
            .map(|port| (port, self.get(port)))
            .filter(|(_, verdict)| *verdict != others)
            .collect()
    }
}

/// The ports of a workload with these policies at which every connection in the clear is denied, and
/// nothing is reported.
#[must_use]
pub fn refused_in_clear(policies: &PolicySet<'_>) -> Refused {
    // A verdict in dry run is reported of every connection.
    if policies.groups().any(Group::has_dry_run) {
        return Refused::default();
    }
    let mut left = PortSet::all();
    for group in policies.groups() {
        left.subtract(&group.in_clear().reported);
    }
    let mut parts = Vec::new();
    let mut refuse = |verdict: Verdict, mut ports: PortSet| {
        ports.intersect(&left);
        left.subtract(&ports);
        if !ports.is_empty() {
            parts.push((verdict, ports));
        }
    };
    let unreadable = |group: &Group| {
        let policy = group.unreadable(Counted::Enforced);
        policy.map(|policy| policy.key.clone())
    };
    let mut groups = policies.groups();
    if let Some(key) = policies
        .missing()
        .cloned()
        .or_else(|| groups.find_map(unreadable))
    {
        refuse(Verdict::missing_policy(key), PortSet::all());
        return Refused { parts };
    }
    for group in policies.groups() {
        for denied in &group.in_clear().denied {
            if let Some(policy) = group.members().get(denied.policy) {
                let verdict = Verdict::deny_rule(policy.key.clone(), denied.rule);
                refuse(verdict, denied.ports.clone());
            }
        }
    }
    let mut groups = policies.groups();
    if let Some(closed) = groups.find_map(|group| group.first_allow(Counted::Enforced)) {
        let mut allowed = PortSet::default();
        for group in policies.groups() {
            allowed.unite(&group.in_clear().allowed);
        }
        refuse(
            Verdict::no_allow_matched(closed.key.clone()),
            allowed.complement(),
        );
    }
    Refused { parts }
}

/// What the policies of one group say of connections in the clear.
#[derive(Debug)]
pub(super) struct InClear {
    /// Where a rule of a DENY policy that is enforced always matches; the sets have no port in common.
    denied: Vec<Denied>,
    /// Where a rule of an ALLOW policy that is enforced may match.
    allowed: PortSet,
    /// Where a rule of an AUDIT policy may match.
    reported: PortSet,
}

#[derive(Debug)]
struct Denied {
    /// Number of the policy in the group.
    policy: usize,
    rule: usize,
    ports: PortSet,
}

impl InClear {
    pub(super) fn new(members: &[std::sync::Arc<Policy>]) -> Self {
        let mut in_clear = Self {
            denied: Vec::new(),
            allowed: PortSet::default(),
            reported: PortSet::default(),
        };
        let mut left = PortSet::all();
        for (number, policy) in members.iter().enumerate() {
            let enforced = !policy.dry_run;
            for (rule, content) in policy.rules.iter().enumerate() {
                match policy.action {
                    PolicyAction::Deny if enforced => {
                        let mut ports = content.ports(policy.action, Bound::Always);
                        ports.intersect(&left);
                        if !ports.is_empty() {
                            left.subtract(&ports);
                            in_clear.denied.push(Denied {
                                policy: number,
                                rule,
                                ports,
                            });
                        }
                    }
                    PolicyAction::Allow if enforced => {
                        let ports = content.ports(policy.action, Bound::Ever);
                        in_clear.allowed.unite(&ports);
                    }
                    PolicyAction::Audit => {
                        let ports = content.ports(policy.action, Bound::Ever);
                        in_clear.reported.unite(&ports);
                    }
                    PolicyAction::Deny | PolicyAction::Allow => {}
                }
            }
        }
        in_clear
    }
}

/// Which ports are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// Those at which a connection in the clear matches, whatever its addresses.
    Always,
    /// All of those at which one matches with some addresses, and perhaps more.
    Ever,
}

impl Rule {
    fn ports(&self, action: PolicyAction, bound: Bound) -> PortSet {
        let mut ports = PortSet::all();
        for clause in &self.clauses {
            if ports.is_empty() {
                break;
            }
            ports.intersect(&clause.ports(action, bound));
        }
        ports
    }
}

impl Clause {
    fn ports(&self, action: PolicyAction, bound: Bound) -> PortSet {
        if self.matches.is_empty() {
            return not_understood(action);
        }
        let mut ports = PortSet::default();
        for m in &self.matches {
            ports.unite(&m.ports(action, bound));
        }
        ports
    }
}

impl Match {
    fn ports(&self, action: PolicyAction, bound: Bound) -> PortSet {
        if self.not_understood {
            return not_understood(action);
        }
        // Nothing matches a principal that is not there, so no negation of such a condition fails.
        let needs_principal = !self.principals.is_empty()
            || !self.namespaces.is_empty()
            || !self.service_accounts.is_empty();
        let addresses = [
            (&self.source_ips, &self.not_source_ips),
            (&self.destination_ips, &self.not_destination_ips),
        ];
        let holds = |(any, none): (&Vec<IpNet>, &Vec<IpNet>)| match bound {
            Bound::Always => (any.is_empty() || cover_all(any)) && none.is_empty(),
            Bound::Ever => !cover_all(none),
        };
        if needs_principal || !addresses.into_iter().all(holds) {
            return PortSet::default();
        }
        let mut ports = PortSet::stated(&self.destination_ports);
        if !self.not_destination_ports.is_empty() {
            ports.subtract(&PortSet::stated(&self.not_destination_ports));
        }
        ports
    }
}

fn not_understood(action: PolicyAction) -> PortSet {
    if fail_closed(action) {
        PortSet::all()
    } else {
        PortSet::default()
    }
}

/// Whether every address is in one of the blocks.
fn cover_all(blocks: &[IpNet]) -> bool {
    let whole = |ipv4: bool| {
        blocks
            .iter()
            .any(|block| block.prefix_len() == 0 && block.addr().is_ipv4() == ipv4)
    };
    whole(true) && whole(false)
}
