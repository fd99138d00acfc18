//! Who asks to connect.

use std::net::IpAddr;
use std::sync::Arc;

use super::names::{address, pair, split, unknown};
use super::{QuestionError, Side};
use crate::identity::SpiffeId;
use crate::snapshot::Snapshot;
use crate::workload::{Tunnel, Workload};

const FORMS: &str = "NAMESPACE/SERVICE-ACCOUNT, NAMESPACE/POD or an address";

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The pod; none for an address outside of the mesh.
    pub workload: Option<Arc<Workload>>,
    /// The node that the client runs on with the node's own addresses: a pod in the host network, or whatever
    /// uses an address that such pods have.
    pub on_node: Option<Arc<str>>,
    address: Option<IpAddr>,
    identity: Option<SpiffeId>,
}

impl Client {
    /// A pod.
    #[must_use]
    pub fn pod(workload: &Arc<Workload>) -> Self {
        Self {
            on_node: workload.host_network.then(|| workload.node.clone()),
            workload: Some(workload.clone()),
            address: None,
            identity: identity_of(workload),
        }
    }

    /// One that was seen: its address, and the identity that it proved.
    #[must_use]
    pub fn seen(ip: IpAddr, identity: Option<SpiffeId>) -> Self {
        Self {
            on_node: None,
            workload: None,
            address: Some(ip.to_canonical()),
            identity,
        }
    }

    /// Whatever has the address `ip`.
    #[must_use]
    pub fn at(snapshot: &Snapshot, ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let on_host = |w: &&Arc<Workload>| w.host_network && w.addresses.contains(&ip);
        let workload = snapshot.workload_by_ip(ip);
        let shared = || snapshot.workloads().find(on_host).map(|w| w.node.clone());
        Self {
            on_node: if workload.is_some() { None } else { shared() },
            workload: workload.cloned(),
            address: Some(ip),
            identity: workload.and_then(identity_of),
        }
    }

    /// Whether its connections are captured where they begin.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.identity.is_some()
    }

    /// The identity that it proves, when it is enrolled.
    #[must_use]
    pub fn identity(&self) -> Option<SpiffeId> {
        self.identity.clone()
    }

    /// The address that it dials `to` from.
    #[must_use]
    pub fn address_towards(&self, to: IpAddr) -> IpAddr {
        let own = self.workload.as_ref().map(|w| w.addresses.as_slice());
        let own = own.unwrap_or_default();
        let same_family = own.iter().find(|ip| ip.is_ipv4() == to.is_ipv4());
        let any = same_family.or(own.first()).copied();
        // Without any address nothing is known of it: no block can be meant to have it.
        self.address.or(any).unwrap_or(match to {
            IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        })
    }

    /// `NAMESPACE/POD`, or the address.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.workload, self.address) {
            (Some(workload), _) => format!("{}/{}", workload.namespace, workload.name),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }
}

fn identity_of(workload: &Arc<Workload>) -> Option<SpiffeId> {
    (workload.tunnel == Tunnel::Hbone).then(|| workload.identity())
}

/// The clients that `text` names: a pod, an address, or the pods of a service account.
///
/// # Errors
/// [`QuestionError`], with what to write instead.
pub fn clients(snapshot: &Snapshot, text: &str) -> Result<Vec<Client>, QuestionError> {
    let name = split(text, &["sa", "pod", "ip"]);
    let malformed = || QuestionError::Malformed {
        side: Side::From,
        text: text.to_owned(),
        forms: FORMS,
    };
    if matches!(name.prefix, None | Some("ip"))
        && let Some(ip) = address(name.text)
    {
        return Ok(vec![Client::at(snapshot, ip)]);
    }
    let (namespace, own) = pair(name.text)
        .filter(|_| name.prefix != Some("ip"))
        .ok_or_else(malformed)?;
    let pod = || snapshot.workload_by_name(namespace, own);
    let account = || pods_of_account(snapshot, namespace, own);
    let (pod, account) = match name.prefix {
        Some("pod") => (pod(), Vec::new()),
        Some("sa") => (None, account()),
        _ => (pod(), account()),
    };
    match (pod, account.is_empty()) {
        (Some(pod), true) => Ok(vec![Client::pod(pod)]),
        (None, false) => Ok(account),
        (Some(_), false) => Err(QuestionError::Ambiguous {
            side: Side::From,
            name: name.text.to_owned(),
            kinds: [("sa", "service account"), ("pod", "pod")],
        }),
        (None, true) => Err(nobody(snapshot, name.prefix, name.text)),
    }
}

fn pods_of_account(snapshot: &Snapshot, namespace: &str, account: &str) -> Vec<Client> {
    let of = |w: &&Arc<Workload>| *w.namespace == *namespace && *w.service_account == *account;
    let mut pods: Vec<_> = snapshot.workloads().filter(of).collect();
    pods.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    pods.into_iter().map(Client::pod).collect()
}

fn nobody(snapshot: &Snapshot, prefix: Option<&str>, name: &str) -> QuestionError {
    let account = |w: &Arc<Workload>| format!("{}/{}", w.namespace, w.service_account);
    let pod = |w: &Arc<Workload>| format!("{}/{}", w.namespace, w.name);
    let accounts = || snapshot.workloads().map(account);
    let pods = || snapshot.workloads().map(pod);
    match prefix {
        Some("sa") => unknown(Side::From, "service account with pods", name, accounts()),
        Some("pod") => unknown(Side::From, "pod", name, pods()),
        _ => {
            let kinds = "pod, and no service account with pods,";
            unknown(Side::From, kinds, name, accounts().chain(pods()))
        }
    }
}
