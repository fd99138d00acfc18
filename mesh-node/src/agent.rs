//! Puts the agent together: a thread for each core for the data plane, one more for everything else,
//! so that a scrape or a large update never costs a packet.

use anyhow::Context;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, About, Addresses, Admin, Readiness};
use crate::bpf::{Datapath, DatapathOptions};
use crate::config::Config;
use crate::direct::Direct;
use crate::drain::Drain;
use crate::enroll::{Api, Enrolment, Store};
use crate::limits;
use crate::logging::Logs;
use crate::observe::{AccessLog, Metrics, Observer};
use crate::proxy::{Mesh, Tuning, Workers};
use crate::refuse::Refuser;
use crate::state::{Certificates, State, StateOptions};
use crate::sys::release_unused;

/// Connections that are cut get this long to be logged.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop, then drains. What is pinned in the kernel stays: pods
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
    let datapath = Arc::new(Datapath::open(&DatapathOptions {
        cgroup: config.cgroup,
        bpffs: config.bpffs,
        node_addresses: config.node_addresses,
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
    let state = State::start(options.clone())?;
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
    let enrolment = Enrolment::new(
        mesh.clone(),
        workers,
        Handle::current(),
        drain.clone(),
        Store::new(&config.run_dir),
    );
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("--run-dir {}", config.run_dir.display()))?;
    enrolment.restore()?;
    mesh.direct.restored();
    Api::bind(&config.run_dir)?.spawn(enrolment.clone())?;

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
        enrolment,
        state: state.clone(),
        readiness: readiness.clone(),
        logs,
        about,
    };
    admin::serve(addresses, admin).await?;
    tokio::spawn(async move {
        state.synced().await;
        readiness.complete();
        tracing::info!("ready");
    });

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining for at most {:?}", config.drain_deadline);
    let direct = mesh.direct.stop(config.drain_deadline);
    tokio::join!(
        drain_connections(&mesh, &drain, config.drain_deadline),
        direct
    );
    mesh.observer.close();
    Ok(())
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
