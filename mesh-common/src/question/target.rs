//! Who is to be reached.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::names::{address, pair, split, unknown};
use super::{QuestionError, Side};
use crate::snapshot::Snapshot;
use crate::workload::{Mode, Service, Tunnel, Workload};

const FORMS: &str = "NAMESPACE/POD, NAMESPACE/SERVICE, a service's hostname or an address";

/// What the client dials, and the servers behind it.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Each place that the connection can end at.
    pub servers: Vec<Server>,
    /// Pods of the service to which none of the dialled port leads.
    pub without_port: Vec<String>,
}

/// What the client dials.
#[derive(Clone, Debug)]
pub enum TargetKind {
    /// A pod, at its own address.
    Pod(Arc<Workload>),
    /// A service. Without a virtual address, clients dial its pods themselves.
    Service(Arc<Service>),
    /// An address of which the mesh knows nothing.
    Unknown(IpAddr),
}

/// One place that the connection can end at.
#[derive(Clone, Debug)]
pub struct Server {
    /// The pod; none for an address of which the mesh knows nothing.
    pub workload: Option<Arc<Workload>>,
    /// The application's address.
    pub address: SocketAddr,
}

impl Server {
    /// Whether an agent stands before it.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        let tunnel = |w: &Arc<Workload>| w.tunnel == Tunnel::Hbone;
        self.workload.as_ref().is_some_and(tunnel)
    }

    /// `NAMESPACE/POD`, or the address.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.workload {
            Some(workload) => format!("{}/{}", workload.namespace, workload.name),
            None => self.address.ip().to_string(),
        }
    }
}

impl Target {
    /// The service, if one with a virtual address is dialled: the mesh chooses the pod.
    #[must_use]
    pub fn balanced(&self) -> Option<&Arc<Service>> {
        match &self.kind {
            TargetKind::Service(service) if !service.vips.is_empty() => Some(service),
            _ => None,
        }
    }

    /// The pods that the connection can end at.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.servers
            .iter()
            .filter_map(|server| server.workload.as_ref())
    }

    /// Whether the agent keeps the address that was dialled.
    pub(super) fn is_passed_through(&self) -> bool {
        self.balanced()
            .is_some_and(|service| service.load_balancing.mode == Mode::Passthrough)
    }
}

/// The servers that `text` names, for a client that dials `port`.
///
/// # Errors
/// [`QuestionError`], with what to write instead.
pub fn target(snapshot: &Snapshot, text: &str, port: u16) -> Result<Target, QuestionError> {
    let name = split(text, &["pod", "svc", "service", "host", "ip"]);
    let malformed = || QuestionError::Malformed {
        side: Side::To,
        text: text.to_owned(),
        forms: FORMS,
    };
    if matches!(name.prefix, None | Some("ip"))
        && let Some(ip) = address(name.text)
    {
        return at(snapshot, ip, port);
    }
    if name.prefix == Some("ip") {
        return Err(malformed());
    }
    if name.prefix == Some("host") || (!name.text.contains('/') && name.text.contains('.')) {
        return match by_hostname(snapshot, name.text) {
            Some(found) => service(snapshot, found, port, None),
            None => {
                let hosts = snapshot.services().map(|s| s.hostname.to_string());
                Err(unknown(
                    Side::To,
                    "service with the hostname",
                    name.text,
                    hosts,
                ))
            }
        };
    }
    let (namespace, own) = pair(name.text).ok_or_else(malformed)?;
    let pod = || snapshot.workload_by_name(namespace, own);
    let of_name = |s: &&Arc<Service>| *s.namespace == *namespace && *s.name == *own;
    let found = || snapshot.services().find(of_name);
    let (pod, found) = match name.prefix {
        Some("pod") => (pod(), None),
        Some(_) => (None, found()),
        None => (pod(), found()),
    };
    match (pod, found) {
        (Some(workload), None) => Ok(directly(workload, None, port)),
        (None, Some(found)) => service(snapshot, found, port, None),
        (Some(_), Some(_)) => Err(QuestionError::Ambiguous {
            side: Side::To,
            name: name.text.to_owned(),
            kinds: [("pod", "pod"), ("svc", "service")],
        }),
        (None, None) => Err(nothing(snapshot, name.prefix, name.text)),
    }
}

fn at(snapshot: &Snapshot, ip: IpAddr, port: u16) -> Result<Target, QuestionError> {
    if let Some(found) = snapshot.service_by_vip(ip) {
        return service(snapshot, found, port, Some(ip));
    }
    Ok(match snapshot.workload_by_ip(ip) {
        Some(workload) => directly(workload, Some(ip), port),
        None => Target {
            kind: TargetKind::Unknown(ip),
            servers: vec![Server {
                workload: None,
                address: SocketAddr::new(ip, port),
            }],
            without_port: Vec::new(),
        },
    })
}

/// A pod at its own address; it has no other if none is dialled.
fn directly(workload: &Arc<Workload>, ip: Option<IpAddr>, port: u16) -> Target {
    let ip = ip.or(workload.addresses.first().copied());
    let server = |ip| Server {
        workload: Some(workload.clone()),
        address: SocketAddr::new(ip, port),
    };
    Target {
        kind: TargetKind::Pod(workload.clone()),
        servers: ip.map(server).into_iter().collect(),
        without_port: Vec::new(),
    }
}

/// The pods of a service, at the port that the dialled one leads to.
fn service(
    snapshot: &Snapshot,
    found: &Arc<Service>,
    port: u16,
    vip: Option<IpAddr>,
) -> Result<Target, QuestionError> {
    let headless = found.vips.is_empty();
    let own = found.ports.iter().find(|p| p.service_port == port);
    if own.is_none() && !headless {
        return Err(QuestionError::NoPort {
            service: format!("{}/{}", found.namespace, found.name),
            port,
            ports: found.ports.iter().map(|p| p.service_port).collect(),
        });
    }
    let family = vip.or(found.vips.first().copied());
    let (mut servers, mut without_port) = (Vec::new(), Vec::new());
    for workload in snapshot.endpoints(found) {
        let listed = workload.services.get(found.key());
        let listed = listed.and_then(|ports| ports.iter().find(|p| p.service_port == port));
        // Nothing stands between the client and a pod of a headless service: the port stays.
        let leads_to = match headless {
            true => Some(port),
            false => [listed, own]
                .into_iter()
                .flatten()
                .map(|p| p.target_port)
                .find(|port| *port != 0),
        };
        let same_family = |ip: &&IpAddr| family.is_none_or(|f| f.is_ipv4() == ip.is_ipv4());
        let own = &workload.addresses;
        let ip = own.iter().find(same_family).or(own.first());
        match (leads_to, ip) {
            (Some(port), Some(ip)) => servers.push(Server {
                workload: Some(workload.clone()),
                address: SocketAddr::new(*ip, port),
            }),
            _ => without_port.push(format!("{}/{}", workload.namespace, workload.name)),
        }
    }
    Ok(Target {
        kind: TargetKind::Service(found.clone()),
        servers,
        without_port,
    })
}

/// A service by its full name, or by as much of it as names service and namespace.
fn by_hostname<'a>(snapshot: &'a Snapshot, host: &str) -> Option<&'a Arc<Service>> {
    let host = host.trim_end_matches('.');
    let exact = |s: &&Arc<Service>| &*s.hostname == host;
    let short = |s: &&Arc<Service>| {
        let name = format!("{}.{}", s.name, s.namespace);
        host == name || host.strip_prefix(&*name) == Some(".svc")
    };
    let services = || snapshot.services();
    services().find(exact).or_else(|| services().find(short))
}

fn nothing(snapshot: &Snapshot, prefix: Option<&str>, name: &str) -> QuestionError {
    let pod = |w: &Arc<Workload>| format!("{}/{}", w.namespace, w.name);
    let service = |s: &Arc<Service>| format!("{}/{}", s.namespace, s.name);
    let pods = || snapshot.workloads().map(pod);
    let services = || snapshot.services().map(service);
    match prefix {
        Some("pod") => unknown(Side::To, "pod", name, pods()),
        Some(_) => unknown(Side::To, "service", name, services()),
        None => unknown(Side::To, "pod or service", name, services().chain(pods())),
    }
}
