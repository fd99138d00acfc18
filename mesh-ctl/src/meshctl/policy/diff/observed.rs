//! Connections that access logs have seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use mesh_common::identity::SpiffeId;
use mesh_common::question::{Client, Server, Target, TargetKind};
use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use serde::Deserialize;

use super::content;
use super::effect::{Judge, Side, State};
use super::report::Report;
use crate::meshctl::CliError;

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    src_addr: SocketAddr,
    src_workload: Option<String>,
    src_namespace: Option<String>,
    src_identity: Option<SpiffeId>,
    dst_addr: SocketAddr,
    dst_workload: Option<String>,
    dst_namespace: Option<String>,
    dst_identity: Option<SpiffeId>,
}

/// Connections between the same two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    source: IpAddr,
    identity: Option<SpiffeId>,
    from: String,
    /// Namespace and name, where the log names the pod.
    pod: Option<(String, String)>,
    destination: SocketAddr,
    runs_as: Option<SpiffeId>,
}

/// The connections, with how many lines tell of each. Both ends may tell of the same one.
pub(super) fn read(files: &[PathBuf]) -> Result<BTreeMap<Seen, usize>, CliError> {
    let mut all = BTreeMap::new();
    for file in files {
        for (n, line) in content(file)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(line).map_err(|e| {
                CliError::Failed(format!(
                    "{}: line {}: is no line of an agent's access log: {e}; give a file that --access-log wrote",
                    file.display(),
                    n + 1
                ))
            })?;
            *all.entry(Seen::from(line)).or_default() += 1;
        }
    }
    Ok(all)
}

impl From<Line> for Seen {
    fn from(line: Line) -> Self {
        let source = line.src_addr.ip().to_canonical();
        let pod = line.src_namespace.zip(line.src_workload);
        let from = match (pod, &line.src_identity) {
            (Some((namespace, name)), _) => format!("{namespace}/{name}"),
            (None, Some(identity)) => identity.principal().to_owned(),
            (None, None) => source.to_string(),
        };
        let to = line.dst_addr;
        Self {
            source,
            identity: line.src_identity,
            from,
            pod: line.dst_namespace.zip(line.dst_workload),
            destination: SocketAddr::new(to.ip().to_canonical(), to.port()),
            runs_as: line.dst_identity,
        }
    }
}

/// Judges each connection before and after.
pub(super) fn compare(seen: &BTreeMap<Seen, usize>, judge: &Judge<'_>, report: &mut Report) {
    for (seen, count) in seen {
        let (before, after) = (state(seen, &judge.old), state(seen, &judge.new));
        if before.gone.is_some() && after.gone.is_some() {
            report.skipped(*count);
            continue;
        }
        report.judged(1);
        let to = match &seen.pod {
            Some((namespace, name)) => format!("{namespace}/{name}"),
            None => seen.destination.ip().to_string(),
        };
        let port = Some(seen.destination.port());
        report.compare(&seen.from, &to, port, before, after, *count);
    }
}

fn state(seen: &Seen, side: &Side<'_>) -> State {
    let client = Client::seen(seen.source, seen.identity.clone());
    let Some(workload) = server(seen, side.snapshot) else {
        return State::gone("the destination is not there, nor a pod that runs as it did");
    };
    let own = workload.addresses.contains(&seen.destination.ip());
    let ip = match own {
        true => Some(seen.destination.ip()),
        false => workload.addresses.first().copied(),
    };
    let Some(ip) = ip else {
        return State::gone("the destination has no address");
    };
    let target = Target {
        kind: TargetKind::Pod(workload.clone()),
        servers: vec![Server {
            workload: Some(workload.clone()),
            address: SocketAddr::new(ip, seen.destination.port()),
        }],
        without_port: Vec::new(),
    };
    side.state(&[client], &target)
}

/// The pod by its name, else by its address, else one that runs as it did.
fn server<'a>(seen: &Seen, snapshot: &'a Snapshot) -> Option<&'a Arc<Workload>> {
    let named = seen.pod.as_ref();
    let named = named.and_then(|(namespace, name)| snapshot.workload_by_name(namespace, name));
    let alike = || {
        let identity = seen.runs_as.as_ref()?;
        let alike = snapshot.workloads().filter(|w| w.identity() == *identity);
        alike.min_by(|a, b| a.uid.cmp(&b.uid))
    };
    named
        .or_else(|| snapshot.workload_by_ip(seen.destination.ip()))
        .or_else(alike)
}
