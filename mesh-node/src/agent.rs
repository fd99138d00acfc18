//! Puts the agent together: a thread for each core for the data plane, one more for everything else,
//! so that a scrape or a large update never costs a packet.

use anyhow::Context;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::admin::{self, About, Addresses, Admin, Readiness};
use crate::bpf::{Datapath, DatapathOptions, cgroup};
use crate::config::{Config, Enrol};
use crate::direct::Direct;
use crate::drain::Drain;
use crate::enroll::{
    Answer, Api, Enrolment, Predecessor, Processes, Reconciler, Reply, Request, Store, Superseded,
    call,
};
use crate::keeper::{Keeper, Taken};
use crate::limits;
use crate::logging::Logs;
use crate::node_addresses::{self, NodeAddresses};
use crate::observe::{AccessLog, Metrics, Observer};
use crate::proxy::{Mesh, Tuning, Workers};
use crate::refuse::Refuser;
use crate::state::{Certificates, State, StateOptions};
use crate::sys::release_unused;

/// How often it is seen to that the keeper holds what it should.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// How often kubelet's cgroup is looked for.
const CGROUP_EVERY: Duration = Duration::from_secs(1);
/// Certificates that the agent before has are had within this time, or the first connections wait for them.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(20);
/// How long the ports of the admin endpoints may stay taken by the agent before.
const PORTS_WITHIN: Duration = Duration::from_secs(10);
/// Connections that are cut get this long to be logged.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop or another takes over, then drains. What is pinned in the kernel stays: pods
/// remain closed, not open, until an agent serves them again or `mesh-node uninstall` lets go.
///
/// # Errors
/// When something the agent cannot work without is missing; names it.
pub fn run(config: Config, logs: Logs) -> anyhow::Result<()> {
    limits::raise_descriptors();
    let control = Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("cannot start the control runtime")?;
    control.block_on(supervise(config, logs))
}

async fn supervise(config: Config, logs: Logs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let log = AccessLog::open(&config.access_log)?;
    let observer = Observer::new(Arc::new(Metrics::new()), log);
    let keeper = config.keeper.as_deref().map(Keeper::at);
    let kept = match &keeper {
        Some(keeper) => keeper.take().context("--keeper")?,
        None => Taken::default(),
    };
    // It crashed, and another agent serves by now what it served.
    let replaced = !kept.sockets.is_empty() && Predecessor::is_there(&config.run_dir);
    if kept.superseded || replaced {
        tracing::info!("another agent has taken over from this one; waiting to be told to end");
        terminate.recv().await;
        return Ok(());
    }
    let kubernetes = config.enrol == Enrol::Kubernetes;
    let cgroup = match config.cgroup {
        Some(cgroup) => cgroup,
        None => kubepods().await?,
    };
    let own_addresses = match kubernetes && config.node_addresses.is_empty() {
        true => Some(NodeAddresses::of(&config.proc).context("addresses of the node")?),
        false => None,
    };
    let datapath = Arc::new(Datapath::open(&DatapathOptions {
        cgroup,
        bpffs: config.bpffs,
        node_addresses: match &own_addresses {
            Some(own) => own.now()?,
            None => config.node_addresses,
        },
        exclude_ports: config.exclude_outbound_ports,
        exclude_cidrs: config.exclude_outbound_cidrs,
        max_pods: config.max_pods,
        max_flows: config.max_flows,
    })?);
    let about = About {
        node: config.node_name.clone(),
        controller: config.controller.clone(),
        started: SystemTime::now(),
    };
    let options = StateOptions {
        node_name: config.node_name,
        cluster_id: config.cluster_id,
        trust_domain: config.trust_domain,
        controller: config.controller,
        controller_ca: config.controller_ca,
        token_file: config.token_file,
    };
    if let Some(own) = own_addresses {
        node_addresses::follow(own, datapath.clone())?;
    }
    let last = match kubernetes {
        true => Answer::load(&config.state_dir)?,
        false => None,
    };
    let state = State::start(options.clone(), kubernetes, last)?;
    let certificates = Certificates::new(options)?;
    let direct = Direct::start(
        config.same_node,
        datapath.clone(),
        state.snapshot(),
        observer.clone(),
    )?;
    let drain = Drain::new();
    let refuser = Refuser::new(
        config.refuse_in_kernel,
        datapath.clone(),
        observer.clone(),
        drain.clone(),
    )?;
    let mesh = Mesh::new(
        state.snapshot(),
        certificates,
        datapath,
        direct,
        refuser,
        observer,
    );
    let workers = config.workers.unwrap_or_else(cores);
    let tuning = Tuning {
        congestion: config.tunnel_congestion_control,
        busy_poll: config.busy_poll,
    };
    let workers = Workers::start(workers, &mesh, &tuning).context("cannot start the data plane")?;
    let (enrolment, mut superseded) = Enrolment::new(
        mesh.clone(),
        workers,
        Handle::current(),
        drain.clone(),
        Store::new(&config.run_dir),
        keeper.clone(),
    );
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("--run-dir {}", config.run_dir.display()))?;
    let processes = kubernetes.then(|| Processes::new(&config.proc));
    let api = if Predecessor::is_there(&config.run_dir) {
        tracing::info!("an agent serves here; this one takes over once it has a complete state");
        tokio::select! {
            () = state.synced() => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        take_over(&mesh, &enrolment, &config.run_dir, processes.as_ref()).await?
    } else {
        enrolment.restore(kept.sockets, processes.as_ref())?;
        Api::bind(&config.run_dir)?
    };
    mesh.direct.restored();
    let answers = kubernetes.then(|| state.answers());
    api.spawn(enrolment.clone(), answers.clone())?;
    if let (Some(answers), Some(processes)) = (answers, processes) {
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("--state-dir {}", config.state_dir.display()))?;
        let reconciler = Reconciler::new(enrolment.clone(), processes, config.state_dir);
        tokio::spawn(reconciler.run(answers));
    }
    if keeper.is_some() {
        tokio::spawn(renew_kept(enrolment.clone()));
    }

    tokio::spawn(mesh.registry.clone().follow(mesh.snapshot.clone()));
    tokio::spawn(mesh.refuser.clone().follow(mesh.snapshot.clone()));
    let readiness = Readiness::default();
    let addresses = Addresses {
        admin: config.admin_addr,
        metrics: config.metrics_addr,
        ready: config.ready_addr,
    };
    tokio::spawn(tidy(enrolment.clone()));
    let admin = Admin {
        mesh: mesh.clone(),
        enrolment: enrolment.clone(),
        state: state.clone(),
        readiness: readiness.clone(),
        logs,
        about,
    };
    let endpoints = serve_admin(addresses, admin).await?;
    tokio::spawn(async move {
        state.synced().await;
        readiness.complete();
        tracing::info!("ready");
    });

    let successor = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        word = superseded.recv() => word,
    };
    tracing::info!("draining for at most {:?}", config.drain_deadline);
    drain.start();
    let closed = tokio::task::spawn_blocking(move || enrolment.close());
    let was_superseded = successor.is_some();
    let direct = leave(&mesh, endpoints, successor, config.drain_deadline);
    let connections = async {
        // Only then is every connection known that was accepted.
        let _ = closed.await;
        drain_connections(&mesh, &drain, config.drain_deadline).await;
    };
    tokio::join!(connections, direct);
    mesh.observer.close();
    if was_superseded && kubernetes {
        // A container that ends is started again, and would take over from its successor.
        tracing::info!("drained; waiting to be told to end");
        terminate.recv().await;
    }
    Ok(())
}

/// Ends what is not connections: all of it, or what the successor does not go on with.
async fn leave(
    mesh: &Mesh,
    endpoints: Vec<AbortHandle>,
    successor: Option<Superseded>,
    deadline: Duration,
) {
    let Some(successor) = successor else {
        return mesh.direct.stop(deadline).await;
    };
    mesh.direct.hand_over().await;
    for endpoint in endpoints {
        endpoint.abort();
    }
    // The listeners are closed when the tasks have ended, which is at their next turn.
    tokio::task::yield_now().await;
    drop(successor);
}

/// Takes over from the agent that serves, as far as it takes part; binds the enrolment socket in its place.
async fn take_over(
    mesh: &Mesh,
    enrolment: &Enrolment,
    run_dir: &Path,
    processes: Option<&Processes>,
) -> anyhow::Result<Api> {
    let certified = certify_all(mesh, run_dir.to_owned());
    if tokio::time::timeout(CERTIFIED_WITHIN, certified)
        .await
        .is_err()
    {
        tracing::warn!("not all certificates are there yet; first connections wait for theirs");
    }
    let (asked, enrolment) = (run_dir.to_owned(), enrolment.clone());
    let processes = processes.cloned();
    // It blocks, and pods that are enrolled need this runtime.
    let taken = tokio::task::spawn_blocking(move || {
        let mut predecessor = match Predecessor::ask(&asked) {
            Ok(predecessor) => predecessor,
            Err(e) => {
                tracing::warn!(
                    "the agent before does not hand over ({e}); its pods are taken up as after a crash"
                );
                enrolment.restore(HashMap::new(), processes.as_ref())?;
                return anyhow::Ok(Api::bind(&asked)?);
            }
        };
        enrolment.take_over(&mut predecessor)?;
        let api = Api::bind(&asked)?;
        if let Err(e) = predecessor.release() {
            tracing::info!("the agent before is gone: {e}");
        }
        Ok(api)
    });
    taken.await.context("taking over")?
}

/// Has the SVIDs of the pods that the agent before serves.
async fn certify_all(mesh: &Mesh, run_dir: PathBuf) {
    let list = move || call(&run_dir, &Request::List);
    let Ok(Ok(Reply::Pods(pods))) = tokio::task::spawn_blocking(list).await else {
        return;
    };
    let mut identities: Vec<_> = pods.into_iter().filter_map(|pod| pod.identity).collect();
    identities.sort();
    identities.dedup();
    for identity in identities {
        if let Err(e) = mesh.certificates.get(&identity).await {
            tracing::debug!("no certificate for {identity} yet: {e}");
        }
    }
}

/// Serves the endpoints as soon as the agent before has left their ports.
async fn serve_admin(addresses: Addresses, admin: Admin) -> anyhow::Result<Vec<AbortHandle>> {
    let until = Instant::now() + PORTS_WITHIN;
    loop {
        match admin::serve(addresses, admin.clone()).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            served => return Ok(served?),
        }
    }
}

/// kubelet's cgroup above all pods, waited for: at boot the agent may be there first.
async fn kubepods() -> anyhow::Result<PathBuf> {
    let mut said = false;
    loop {
        if let Some(found) = cgroup::find_kubepods().context("cannot look for kubelet's cgroup")? {
            tracing::info!("pods are below {}", found.display());
            return Ok(found);
        }
        if !said {
            tracing::info!(
                "waiting for kubelet to make its cgroup \"kubepods\"; if it has, cgroup version 2 of the node \
                 is not mounted here"
            );
            said = true;
        }
        tokio::time::sleep(CGROUP_EVERY).await;
    }
}

async fn renew_kept(enrolment: Enrolment) {
    loop {
        tokio::time::sleep(KEPT_EVERY).await;
        let enrolment = enrolment.clone();
        let _ = tokio::task::spawn_blocking(move || enrolment.renew_kept()).await;
    }
}

/// Tells everybody to finish, and ends what has not by the deadline.
async fn drain_connections(mesh: &Mesh, drain: &Drain, deadline: Duration) {
    drain.start();
    mesh.connections.close();
    if tokio::time::timeout(deadline, mesh.connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            "{} connections are closed at the drain deadline",
            mesh.connections.len()
        );
        drain.expire();
        // They only have to write their last lines.
        let _ = tokio::time::timeout(LAST_LINES_WITHIN, mesh.connections.wait()).await;
    }
}

/// Processors that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Loading programs takes memory and code that nothing needs afterwards.
async fn tidy(enrolment: Enrolment) {
    loop {
        enrolment.settled().await;
        if let Err(e) = release_unused() {
            tracing::debug!("unused memory is kept: {e}");
        }
    }
}
