//! Puts the parts together: source -> compile -> world -> discovery and certificates.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::Client;
use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::auth::JwksError;
use crate::ca::{CaError, CertificateService, Follower, bundle};
use crate::compile::Compiler;
use crate::config::Config;
use crate::kubernetes::{self, ConnectError};
use crate::lease::{self, Lease};
use crate::memory;
use crate::metrics::Metrics;
use crate::model::{Change, Objects};
use crate::resources::{Step, World};
use crate::serve::admin::Admin;
use crate::serve::tls::{self, Serving, ServingError};
use crate::source::{Choice, ChoiceError, DirectorySource, KubernetesSource, Problems, Sink};
use crate::xds::server::Discovery;
use crate::xds::status::Clients;

/// A certificate request is small.
const MAX_CERTIFICATE_REQUEST: usize = 64 << 10;
/// A node has one discovery stream, and few requests for certificates at a time.
const MAX_STREAMS: u32 = 64;
const MAX_HEADERS: u32 = 16 << 10;
/// Held by the replica that publishes the root bundle.
const ROOTS_LEASE: &str = "weft-root-bundle";
/// After a restart all nodes come at once. The kernel resets some of those that find no place in its queue.
const BACKLOG: u32 = 4096;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Streams are told to end; what has not by then is cut.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration directory is invalid; one line for each problem.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// There is no source.
    #[error(transparent)]
    Source(#[from] ChoiceError),
    /// The certificate authority is unusable.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The token keys are unusable.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// There is no way to the API server.
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
    /// No serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// The option that gave it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compiles what a source finds, and publishes what changed.
pub struct Publisher {
    compiler: Compiler,
    worlds: watch::Sender<Arc<World>>,
    warnings: watch::Sender<Arc<BTreeSet<String>>>,
    metrics: Metrics,
}

impl Sink for Publisher {
    fn replace(&mut self, objects: Objects) {
        let at = Instant::now();
        let step = self.compiler.replace(objects);
        self.publish(step, at);
    }

    fn change(&mut self, changes: Vec<Change>) {
        let at = Instant::now();
        let step = self.compiler.change(changes);
        self.publish(step, at);
    }
}

impl Publisher {
    fn publish(&mut self, step: Step, at: Instant) {
        if let Some(warnings) = self.compiler.take_changed_warnings() {
            for line in warnings.difference(&self.warnings.borrow()) {
                tracing::warn!("{line}");
            }
            self.warnings.send_replace(Arc::new(warnings));
        }
        let next = self.worlds.borrow().next(step, at);
        if let Some(world) = next {
            self.metrics.compiled(&world, at.elapsed());
            tracing::debug!(generation = world.generation(), "the mesh changed");
            self.worlds.send_replace(Arc::new(world));
        }
    }
}

/// A running controller.
pub struct Controller {
    /// Where the gRPC port really listens.
    pub address: SocketAddr,
    /// Where the admin endpoints really listen.
    pub admin_address: SocketAddr,
    stop: CancellationToken,
    tasks: Tasks,
}

impl Controller {
    /// Serves. A directory has been read by then; a cluster is read meanwhile, and nodes wait for it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        match config.source.choose(config.kubeconfig.as_ref()).await? {
            Choice::Directory(directory) => {
                let (source, objects) = DirectorySource::open(directory, metrics.clone())?;
                Self::serve(config, metrics, |mut publisher, stop| {
                    publisher.replace(objects);
                    source.run(publisher, stop)
                })
                .await
            }
            Choice::Kubernetes(client) => {
                let lease = status_lease(&client);
                let source = KubernetesSource::new(client, metrics.watches());
                let source = source.writing_status(lease);
                Self::serve(config, metrics, |publisher, stop| {
                    source.run(publisher, stop)
                })
                .await
            }
        }
    }

    /// Serves what `feed` publishes; it runs until its token is cancelled.
    pub async fn serve<F>(
        config: Config,
        metrics: Metrics,
        feed: impl FnOnce(Publisher, CancellationToken) -> F,
    ) -> Result<Self, StartError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let kubeconfig = config.kubeconfig.as_ref();
        let store = config.ca.store(kubeconfig).await?;
        let (authority, follower) =
            Follower::open(store, config.lifetimes.cert_ttl, metrics.clone()).await?;
        let client = match config.auth.source.token_review || config.publication.publish_roots {
            true => Some(kubernetes::connect(kubeconfig).await?),
            false => None,
        };
        let reviews = client.clone().filter(|_| config.auth.source.token_review);
        let authenticator = Arc::new(config.auth.authenticator(reviews)?);
        let (worlds, world) = watch::channel(Arc::new(World::default()));
        let (warnings, warned) = watch::channel(Arc::default());
        let publisher = Publisher {
            compiler: Compiler::new(config.compile_options()),
            worlds,
            warnings,
            metrics: metrics.clone(),
        };
        let clients = Clients::default();
        let serving = Serving::new(Arc::clone(&authority), config.server_name.clone())?;
        let listener = listen("--listen", config.listen)?;
        let admin = listen("--admin-addr", config.admin_addr)?;
        let (address, admin_address) = (
            local(&listener, config.listen),
            local(&admin, config.admin_addr),
        );
        let connections = tls::accept(listener, serving.config()?, metrics.clone(), stop.clone());

        let discovery = Discovery::new(
            world.clone(),
            Arc::clone(&authenticator),
            metrics.clone(),
            clients.clone(),
            config.discovery.clone(),
            stop.clone(),
        );
        let publisher_of_roots =
            client
                .filter(|_| config.publication.publish_roots)
                .map(|client| {
                    let name = lease::process_name();
                    let lease = Lease::new(
                        client.clone(),
                        client.default_namespace(),
                        ROOTS_LEASE,
                        &name,
                    );
                    let (held, holder) = lease.start(stop.clone());
                    let target = config.bundle_target();
                    let roots = Arc::clone(&authority);
                    let roots = bundle::Publisher::new(client, target, roots, metrics.clone());
                    (holder, roots.run(held, stop.clone()))
                });
        let certificates = CertificateService::new(
            authority,
            authenticator,
            config.trust_domain.clone(),
            config.lifetimes.clone(),
            world.clone(),
            metrics.clone(),
        );
        let grpc = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .add_service(discovery)
            .add_service(
                IstioCertificateServiceServer::new(certificates)
                    .max_decoding_message_size(MAX_CERTIFICATE_REQUEST),
            )
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stop.clone().cancelled_owned(),
            );
        let sent = metrics.clone();
        let router = Admin {
            worlds: world,
            warnings: warned,
            clients,
            metrics,
            started: SystemTime::now(),
        }
        .router();
        let http =
            axum::serve(admin, router).with_graceful_shutdown(stop.clone().cancelled_owned());

        let mut tasks = Tasks::default();
        tasks.spawn("the reader of the CA", follower.run(stop.clone()));
        tasks.spawn("the compile stage", feed(publisher, stop.clone()));
        tasks.spawn(
            "the serving certificate's renewal",
            serving.keep_fresh(stop.clone()),
        );
        tasks.spawn("the gRPC server", async move {
            if let Err(e) = grpc.await {
                tracing::error!(error = %e, "the gRPC server failed");
            }
        });
        tasks.spawn("the admin server", async move {
            if let Err(e) = http.await {
                tracing::error!(error = %e, "the admin server failed");
            }
        });
        tasks.spawn("the return of memory", memory::follow(sent, stop.clone()));
        if let Some((holder, roots)) = publisher_of_roots {
            tasks.spawn("the lease of the root bundle", ended(holder));
            tasks.spawn("the publication of the root bundle", roots);
        }
        tracing::info!(%address, %admin_address, "serving");
        Ok(Self {
            address,
            admin_address,
            stop,
            tasks,
        })
    }

    /// Completes when a part of the controller has ended that should run for as long as it serves, and
    /// names it. The rest goes on, but what it says may get old.
    pub async fn failed(&mut self) -> &'static str {
        self.tasks.next().await
    }

    /// Ends every stream with a reason and waits for what is under way, for a bounded time.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let mut tasks = self.tasks;
        let all = async { while tasks.running.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, all).await.is_err() {
            tracing::warn!(after = ?SHUTDOWN, "connections that did not end are cut");
        }
    }
}

/// What runs until the controller stops.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.running.spawn(task).id(), name);
    }

    /// The next that ends; never when there is none.
    async fn next(&mut self) -> &'static str {
        let id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(e)) => e.id(),
            None => std::future::pending().await,
        };
        self.names.get(&id).copied().unwrap_or("a task")
    }
}

/// A task of another's, whose end counts as its own.
async fn ended(task: JoinHandle<()>) {
    if let Err(e) = task.await
        && let Ok(panic) = e.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// In the namespace of this controller; the holder's name is that of the pod, and one of a kind.
fn status_lease(client: &Client) -> Lease {
    let holder = lease::process_name();
    let namespace = client.default_namespace().to_owned();
    Lease::new(client.clone(), &namespace, "weft-policy-status", &holder)
}

fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| StartError::Listen {
        flag,
        address,
        source,
    })
}

fn local(listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_is_named_however_it_ends() {
        let mut tasks = Tasks::default();
        tasks.spawn("one that goes on", std::future::pending());
        let panicking = tokio::spawn(async { panic!("on purpose") });
        tasks.spawn("one that panics", ended(panicking));
        assert_eq!(tasks.next().await, "one that panics");
        tasks.spawn("one that returns", async {});
        assert_eq!(tasks.next().await, "one that returns");
    }
}
