//! Who owns an address when more than one object claims it.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::ObjectName;

/// Assigns each address to one claimant. Later claims win, so claimants come worst first.
pub(super) struct Claims<'a> {
    owners: HashMap<IpAddr, &'a ObjectName>,
}

impl<'a> Claims<'a> {
    /// Weighs the claims; every conflict gives one warning.
    pub(super) fn settle(
        kind: &'static str,
        claims: impl Iterator<Item = (&'a ObjectName, &'a [IpAddr])>,
        mut warn: impl FnMut(String),
    ) -> Self {
        let mut owners: HashMap<IpAddr, &ObjectName> = HashMap::new();
        for (name, addresses) in claims {
            for address in addresses {
                if let Some(loser) = owners.insert(*address, name) {
                    warn(format!(
                        "{kind} {loser}: its address {address} is also that of {kind} {name}, \
                         which keeps it; give each its own"
                    ));
                }
            }
        }
        Self { owners }
    }

    /// The addresses that the claimant keeps.
    pub(super) fn kept(&self, name: &ObjectName, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let owned =
            |address: &&IpAddr| self.owners.get(address).is_some_and(|owner| *owner == name);
        addresses.iter().filter(owned).copied().collect()
    }
}
