//! One combination of a rule's alternatives: everything that it asks of a connection.

use ipnet::IpNet;

use super::field::Field;
use crate::policy::matches::{Match, ServiceAccountMatch, StringMatch};

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    principals: Field<StringMatch>,
    namespaces: Field<StringMatch>,
    service_accounts: Field<ServiceAccountMatch>,
    source_ips: Field<IpNet>,
    destination_ips: Field<IpNet>,
    ports: Field<u16>,
}

impl Way {
    /// With the conditions of `m` as well.
    pub(super) fn and(&self, m: &Match) -> Self {
        let mut way = self.clone();
        way.principals.add(&m.principals, &m.not_principals);
        way.namespaces.add(&m.namespaces, &m.not_namespaces);
        way.service_accounts
            .add(&m.service_accounts, &m.not_service_accounts);
        way.source_ips.add(&m.source_ips, &m.not_source_ips);
        way.destination_ips
            .add(&m.destination_ips, &m.not_destination_ips);
        way.ports
            .add(&m.destination_ports, &m.not_destination_ports);
        // A principal has its namespace and its service account inside; an account has its namespace.
        let accounts = all(&m.principals, account_in).unwrap_or_default();
        way.service_accounts.add(&accounts, &[]);
        let of_principals = all(&m.principals, namespace_in).unwrap_or_default();
        way.namespaces.add(&of_principals, &[]);
        let of_account =
            |account: &ServiceAccountMatch| Some(StringMatch::Exact(account.namespace.clone()));
        let of_accounts = all(&m.service_accounts, of_account).unwrap_or_default();
        way.namespaces.add(&of_accounts, &[]);
        way
    }

    /// None when it is proven that no connection meets it.
    pub(super) fn possible(mut self) -> Option<Self> {
        let possible = self.principals.reduce()
            & self.namespaces.reduce()
            & self.service_accounts.reduce()
            & self.source_ips.reduce()
            & self.destination_ips.reduce()
            & self.ports.reduce();
        let contradicts = self.needs_principal() && self.excludes_principals();
        (possible && !contradicts).then_some(self)
    }

    pub(super) fn needs_principal(&self) -> bool {
        self.principals.is_asked() || self.namespaces.is_asked() || self.service_accounts.is_asked()
    }

    pub(super) fn excludes_principals(&self) -> bool {
        let none = self.principals.none().iter().chain(self.namespaces.none());
        none.into_iter().any(StringMatch::is_everything)
    }

    /// Whether a connection that meets this meets `m`.
    pub(super) fn implies(&self, m: &Match) -> bool {
        self.of_identity(&self.principals, &m.principals, &m.not_principals)
            && self.of_identity(&self.namespaces, &m.namespaces, &m.not_namespaces)
            && self.service_accounts.implies_any(&m.service_accounts)
            && (self.excludes_principals()
                || self.service_accounts.implies_none(&m.not_service_accounts))
            && self.source_ips.implies_any(&m.source_ips)
            && self.source_ips.implies_none(&m.not_source_ips)
            && self.destination_ips.implies_any(&m.destination_ips)
            && self.destination_ips.implies_none(&m.not_destination_ips)
            && self.ports.implies_any(&m.destination_ports)
            && self.ports.implies_none(&m.not_destination_ports)
    }

    /// Without a principal nothing is matched, by a list or by its negation.
    fn of_identity(
        &self,
        own: &Field<StringMatch>,
        any: &[StringMatch],
        none: &[StringMatch],
    ) -> bool {
        let present = self.needs_principal() && any.iter().any(StringMatch::is_everything);
        let absent = self.excludes_principals();
        (present || own.implies_any(any)) && (absent || own.implies_none(none))
    }
}

/// What each of `from` has, when each has it.
fn all<T, U>(from: &[T], read: impl Fn(&T) -> Option<U>) -> Option<Vec<U>> {
    from.iter().map(read).collect()
}

/// The namespace that every principal has which matches; the form is `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
fn namespace_in(principal: &StringMatch) -> Option<StringMatch> {
    if let Some(account) = account_in(principal) {
        return Some(StringMatch::Exact(account.namespace));
    }
    let StringMatch::Prefix(prefix) = principal else {
        return None;
    };
    let mut parts = prefix.split('/');
    let (_domain, ns) = (parts.next()?, parts.next()?);
    let namespace = parts.next()?;
    // Only what is followed by a slash is whole.
    parts.next()?;
    (ns == "ns").then(|| StringMatch::Exact(namespace.into()))
}

/// The service account that every principal has which matches.
fn account_in(principal: &StringMatch) -> Option<ServiceAccountMatch> {
    let path = match principal {
        StringMatch::Exact(whole) => whole.split_once('/')?.1,
        StringMatch::Suffix(end) => end.rsplit_once("/ns/").map(|(_, path)| path)?,
        StringMatch::Prefix(_) | StringMatch::Presence => return None,
    };
    let path = path.strip_prefix("ns/").unwrap_or(path);
    let (namespace, account) = path.split_once("/sa/")?;
    let whole = !namespace.contains('/') && !account.contains('/');
    whole.then(|| ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: account.into(),
    })
}
